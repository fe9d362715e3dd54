"""A mistake that the API server cannot detect becomes a condition that names it, until it is corrected."""

from __future__ import annotations

import pytest
from tests.e2e.conditions import describe, wait_for_condition

from demo.kubernetes import Kube, condition_of

NEEDS = ("redis.yaml",)
MISSING = {"urlFrom": {"secretKeyRef": {"name": "made-later", "key": "url"}}}


@pytest.mark.parametrize(
    ("name", "wrong", "reason", "says"),
    [
        pytest.param(
            "no-secret", {"broker": MISSING}, "SecretNotFound", "Secret made-later does not exist",
            id="a Secret is missing",
        ),
        pytest.param(
            "no-key",
            {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "adress"}}}},
            "SecretNotFound",
            "Secret redis has no key adress",
            id="a key of a Secret is missing",
        ),
        pytest.param(
            "no-image", {"image": "localhost/there-is-no-such-image:1"}, "ImagePullFailed", "there-is-no-such-image",
            id="an image does not exist",
        ),
        pytest.param(
            "no-app", {"app": "reports_of_last_year:app"}, "WorkerMisconfigured", "reports_of_last_year",
            id="an application cannot be imported",
        ),
        pytest.param(
            "no-attribute", {"app": "reports:application"}, "WorkerMisconfigured", "application",
            id="a module has no such application",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_goes_away_when_it_is_put_right(shop, kube: Kube, a_pool, name, wrong, reason, says):
    kube.apply(a_pool(name, **wrong))
    message = wait_for_condition(kube, name, "Stalled", reason)
    assert says in message
    ready = condition_of(kube.pool(name), "Ready")
    assert (ready.status, ready.reason) == ("False", reason)
    described = describe(kube, name)
    assert reason in described
    assert says in described

    if wrong.get("broker") is MISSING:
        url = kube.read(f"api/v1/namespaces/{kube.namespace}/secrets/redis")["data"]["url"]
        kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made-later"}, "data": {"url": url}})
    else:
        kube.apply(a_pool(name))
    kube.wait_ready(name, seconds=120)
    assert condition_of(kube.pool(name), "Stalled").status == "Unknown", "a pool that is well has no such condition"
    kube.kubectl("delete", "cwp", name)


def test_a_wrong_broker_password_is_named_and_its_messages_wait(shop, kube: Kube, a_pool):
    kube.apply(a_pool("well", queues=["well"]))
    kube.wait_ready("well")
    (pod,) = kube.pool_pods("well")
    call = "celery -A reports call reports.add_up --queue=locked-out --args='[[1, 2, 3]]'"
    script = f"BROKER_URL=$CELERIAC_BROKER_URL {call}"
    task_id = kube.kubectl("exec", pod["metadata"]["name"], "--container=worker", "--", "sh", "-c", script).strip()

    wrong = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "wrong-password"},
        "stringData": {"url": "redis://:not-the-password@redis:6379/0"},
    }
    kube.apply(wrong)
    broker = {"urlFrom": {"secretKeyRef": {"name": "wrong-password", "key": "url"}}}
    kube.apply(a_pool("locked-out", queues=["locked-out"], broker=broker))
    message = wait_for_condition(kube, "locked-out", "Stalled", "BrokerUnreachable")
    assert "password" in message.lower() or "WRONGPASS" in message
    assert "not-the-password" not in describe(kube, "locked-out")

    # A rotated Secret is enough: nobody has to touch the pool.
    right = kube.read(f"api/v1/namespaces/{kube.namespace}/secrets/redis")["data"]["url"]
    kube.kubectl("patch", "secret", "wrong-password", f'--patch={{"data": {{"url": "{right}"}}}}')
    kube.wait_ready("locked-out", seconds=120)
    # Asked of the result backend: the pod that was locked out may start once more, with the new password, and be first.
    script = f"RESULT_BACKEND_URL=$CELERIAC_RESULT_BACKEND_URL celery -A reports result {task_id}"
    result = kube.kubectl("exec", pod["metadata"]["name"], "--container=worker", "--", "sh", "-c", script, seconds=60)
    assert result.strip() == "6"
