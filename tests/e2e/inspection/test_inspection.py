"""kubectl gives useful answers about pools."""

from __future__ import annotations

import json

from demo.kubernetes import Kube

NEEDS = ("redis.yaml",)
POOL = "reports"


def test_explain_says_what_a_field_does_and_in_which_unit(kube: Kube):
    text = kube.kubectl("explain", "cwp.spec.timeLimits.softSeconds")
    description = " ".join(text.partition("DESCRIPTION:")[2].split())
    assert "seconds" in description.lower()
    assert "SoftTimeLimitExceeded" in description


def test_explain_describes_every_field(kube: Kube):
    text = kube.kubectl("explain", "cwp.spec", "--recursive=false")
    assert "<no description>" not in text


def test_columns_tell_ready_draining_status_and_age(shop, kube: Kube, a_pool):
    kube.apply(a_pool(POOL))
    kube.kubectl("wait", "--for=condition=Ready", f"cwp/{POOL}", "--timeout=90s")
    header, row = (line.split() for line in kube.kubectl("get", "cwp", POOL).splitlines())
    assert header[:7] == ["NAME", "READY", "DRAINING", "BACKLOG", "OLDEST", "STATUS", "AGE"]
    # Cells without a value are blank: nothing waits, or the queues have not been read yet.
    assert row[:3] == [POOL, "1/1", "0"]
    assert "Ready" in row


def test_wide_columns_tell_queues_image_and_library(shop, kube: Kube, a_pool, images):
    kube.apply(a_pool(POOL))
    kube.wait_ready(POOL)
    text = kube.kubectl("get", "cwp", POOL, "--output=wide")
    assert '["reports"]' in text
    assert images["celeriac-demo-plain"].rpartition("/")[2] in text
    assert images["celeriac-worker"].rpartition(":")[2] in text
    before_the_message = text.splitlines()[0].partition("MESSAGE")[0]
    assert len(before_the_message) < 140


def test_a_new_pool_is_not_ready_before_anybody_has_looked_at_it(kube: Kube, a_pool):
    # kstatus takes an object without the condition for ready, and so do GitOps tools.
    created = kube.kubectl("create", "--dry-run=server", "--output=json", "-f", "-", stdin=json.dumps(a_pool("new")))
    conditions = {each["type"]: each for each in json.loads(created)["status"]["conditions"]}
    assert conditions["Ready"]["status"] == "Unknown"
    assert conditions["Ready"]["reason"] == "Pending"
