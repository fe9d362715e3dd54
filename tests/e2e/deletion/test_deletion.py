"""Deleting a pool removes what was made for it, and nothing else."""

from __future__ import annotations

from demo import waiting
from demo.kubernetes import Kube

NEEDS = ("redis.yaml",)
POOL = "reports"
DSN = "http://public@sentry:8000/1"


def list_owned(kube: Kube) -> list[str]:
    """What there is of the pool: everything that carries its name."""
    kinds = "celeryworkerpools,deployments,replicasets,pods,secrets,poddisruptionbudgets,services"
    found = kube.kubectl("get", kinds, "--output=name").split()
    return sorted(name for name in found if name.partition("/")[2].startswith(POOL))


def test_deleting_a_pool_cleans_up_and_leaves_the_neighbour_alone(shop, kube: Kube, a_pool):
    kube.apply(a_pool(POOL, sentry={"dsn": DSN}))
    kube.apply(a_pool("neighbour"))
    kube.wait_ready(POOL)
    kube.wait_ready("neighbour")
    assert f"secret/{POOL}-sentry" in list_owned(kube)
    (neighbour,) = kube.pool_pods("neighbour")

    kube.kubectl("delete", f"cwp/{POOL}")

    waiting.until("nothing of the pool is left", lambda: list_owned(kube), lambda names: not names, seconds=60)
    assert [pod["metadata"]["uid"] for pod in kube.pool_pods("neighbour")] == [neighbour["metadata"]["uid"]]
    assert "redis" in kube.kubectl("get", "secrets", "--output=name")
