"""A mistake elsewhere stops no worker: in the DSN, in the next image, in another pool of the same name."""

from __future__ import annotations

import base64

import pytest
from tests.e2e.conditions import wait_for_condition

from demo import waiting
from demo.kubernetes import Kube

NEEDS = ("redis.yaml",)


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
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "a DSN does not restart a worker"
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
