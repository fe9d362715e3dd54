"""An image without Celeriac runs unchanged."""

from __future__ import annotations

import re

from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml", "plain.yaml")
POOL = "reports"


def test_a_task_of_an_ordinary_image_runs(shop: Shop):
    title = shop.name("report")
    result = shop.wait_for_result(shop.start("render", title=title, seconds=0), seconds=60)
    assert result.state == "SUCCESS"
    assert result.value.startswith(f"{title}, by {POOL}@")


def test_the_application_keeps_its_own_version_of_celery(shop: Shop):
    (pod,) = shop.kube.pool_pods(POOL)
    command = "import celery; print(celery.__version__)"
    said = shop.kube.kubectl(
        "exec", pod["metadata"]["name"], "--container=worker", "--", "/app/.venv/bin/python", "-c", command
    )
    assert said.strip() == "5.4.0"


def test_its_logs_have_the_promised_format_too(shop: Shop):
    title = shop.name("report")
    task_id = shop.start("render", title=title, seconds=0)
    shop.wait_for_result(task_id, seconds=60)
    (pod,) = shop.kube.pool_pods(POOL)
    text = shop.kube.kubectl("logs", pod["metadata"]["name"], "--container=worker")
    assert re.search(
        rf"^\[[-\d]+ [:,\d]+:INFO\] Task reports\.render\[{task_id}\]: rendering {title}$", text, re.MULTILINE
    )


def test_the_injected_library_cannot_be_changed_by_the_application(shop: Shop):
    (pod,) = shop.kube.pool_pods(POOL)
    worker = next(each for each in pod["spec"]["containers"] if each["name"] == "worker")
    (mount,) = [each for each in worker["volumeMounts"] if each["mountPath"] == "/celeriac"]
    assert mount["readOnly"] is True
