"""What the API server cannot know to be wrong becomes a condition that names it, and goes away when it is put right."""

from __future__ import annotations

import base64

import pytest

from demo import waiting
from demo.kubernetes import Kube, condition_of

NEEDS = ("redis.yaml",)
MISSING = {"urlFrom": {"secretKeyRef": {"name": "made-later", "key": "url"}}}


def wait_for_condition(kube: Kube, pool: str, kind: str, reason: str, seconds: float = 60) -> str:
    """Wait until a condition has a reason, and return its message."""
    seen = waiting.until(
        f"{kind} of {pool} says {reason}",
        lambda: condition_of(kube.pool(pool), kind),
        lambda condition: condition.reason == reason and condition.is_current,
        seconds=seconds,
    )
    return seen.message


def describe(kube: Kube, pool: str) -> str:
    """What a person reads, as one line."""
    return " ".join(kube.kubectl("describe", "cwp", pool).split())


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
    # The pod that was locked out may still be leaving: its logs can vanish between two calls.
    (pod,) = waiting.until(
        "only the new pod is left", lambda: kube.pool_pods("locked-out"), lambda pods: len(pods) == 1, seconds=60
    )
    waiting.until(
        "the message that waited is consumed",
        lambda: kube.kubectl("logs", pod["metadata"]["name"], "--container=worker"),
        lambda logs: f"[{task_id}]: 3 numbers make 6" in logs,
        seconds=60,
    )


@pytest.mark.parametrize(
    ("dsn", "reason", "says"),
    [
        pytest.param(None, "SecretNotFound", "Secret sentry does not exist", id="the DSN's Secret is missing"),
        pytest.param("sentry.example/1", "InvalidDSN", "is not a DSN", id="a DSN is malformed"),
    ],
)
def test_workers_run_whatever_the_dsn_is_and_the_condition_names_what_is_wrong(
    shop, kube: Kube, a_pool, dsn, reason, says
):
    kube.kubectl("delete", "secret", "sentry", "--ignore-not-found")
    if dsn:
        kube.kubectl("create", "secret", "generic", "sentry", f"--from-literal=dsn={dsn}")
    kube.apply(a_pool("mute", sentry={"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}}))
    assert says in wait_for_condition(kube, "mute", "SentryConfigured", reason)
    kube.wait_ready("mute")
    (before,) = kube.pool_pods("mute")

    kube.kubectl("delete", "secret", "sentry", "--ignore-not-found")
    kube.kubectl("create", "secret", "generic", "sentry", "--from-literal=dsn=http://public@sentry:8000/1")
    wait_for_condition(kube, "mute", "SentryConfigured", "Configured")
    (after,) = kube.pool_pods("mute")
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "a DSN is no reason to restart a worker"
    kube.kubectl("delete", "cwp", "mute")


def test_a_wrong_change_leaves_the_workers_of_before_running(shop, kube: Kube, a_pool):
    kube.apply(a_pool("careful"))
    kube.wait_ready("careful")
    (before,) = kube.pool_pods("careful")
    kube.apply(a_pool("careful", image="localhost/there-is-no-such-image:2"))
    message = wait_for_condition(kube, "careful", "Stalled", "ImagePullFailed")
    assert "workers of the previous template keep running" in message
    assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in kube.pool_pods("careful")}
    kube.kubectl("delete", "cwp", "careful")


def test_two_pools_of_one_name_in_two_namespaces_do_not_know_of_each_other(shop, kube: Kube, a_pool):
    other = kube.at(f"{kube.namespace}-b")
    kube.kubectl("create", "namespace", other.namespace)
    try:
        secret = kube.read(f"api/v1/namespaces/{kube.namespace}/secrets/redis")["data"]["url"]
        far = f"redis.{kube.namespace}"  # the other namespace's pool uses the same Redis, by its full name
        other.kubectl(
            "create", "secret", "generic", "redis", f"--from-literal=url={far_url(secret, far, 2)}",
            f"--from-literal=resultUrl={far_url(secret, far, 3)}",
        )  # fmt: skip
        kube.apply(a_pool("twin"))
        other.apply(a_pool("twin", replicas=2))
        kube.wait_ready("twin")
        other.wait_ready("twin")
        assert (len(kube.pool_pods("twin")), len(other.pool_pods("twin"))) == (1, 2)
        kube.kubectl("delete", "cwp", "twin")
        waiting.until(
            "one twin's workers are gone", lambda: kube.pods(workers_of("twin")), lambda pods: not pods, seconds=60
        )
        assert len(other.pool_pods("twin")) == 2
        other.wait_ready("twin")
    finally:
        kube.kubectl("delete", "namespace", other.namespace, "--wait=false")


def workers_of(pool: str) -> str:
    """The label selector of a pool's pods."""
    return f"celeriac.dev%2Fpool%3D{pool}"


def far_url(encoded: str, host: str, database: int) -> str:
    """The same Redis from another namespace, another database of it."""
    url = base64.b64decode(encoded).decode()
    return url.replace("@redis:", f"@{host}:").replace("/0", f"/{database}")
