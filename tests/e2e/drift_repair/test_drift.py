"""The operator restores objects that others change or delete."""

from __future__ import annotations

from typing import Any

import pytest

from demo import waiting
from demo.kubernetes import HttpError, Kube

NEEDS = ("redis.yaml",)
POOL = "reports"


def deployment(kube: Kube) -> Any:
    """The pool's Deployment, or None while there is none."""
    try:
        return kube.read(f"apis/apps/v1/namespaces/{kube.namespace}/deployments/{POOL}")
    except HttpError as error:
        if error.status != 404:
            raise
        return None


@pytest.fixture
def before(shop, kube: Kube, a_pool) -> Any:
    kube.apply(a_pool(POOL))
    kube.wait_ready(POOL)
    return deployment(kube)


def wait_for_repair(kube: Kube, before: Any) -> None:
    waiting.until(
        "the Deployment is as it was",
        lambda: (deployment(kube) or {}).get("spec"),
        lambda spec: spec == before["spec"],
        seconds=30,
    )
    kube.wait_ready(POOL)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("scale", f"deployment/{POOL}", "--replicas=3"), id="another number of replicas"),
        pytest.param(("set", "image", f"deployment/{POOL}", "worker=localhost/other:1"), id="another image"),
        pytest.param(
            ("patch", f"deployment/{POOL}", "--type=json",
             '--patch=[{"op": "remove", "path": "/spec/template/spec/containers/0/livenessProbe"}]'),
            id="no liveness probe",
        ),
        pytest.param(
            ("set", "env", f"deployment/{POOL}", "--containers=worker", "CELERIAC_CONFIG={}"),
            id="another configuration",
        ),
    ],
)  # fmt: skip
def test_an_edited_deployment_is_put_right(kube: Kube, before: Any, change: tuple[str, ...]):
    kube.kubectl(*change)
    wait_for_repair(kube, before)
    assert deployment(kube)["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_deleted_deployment_comes_back(kube: Kube, before: Any):
    kube.kubectl("delete", f"deployment/{POOL}", "--wait=false")
    waiting.until(
        "there is a new Deployment",
        lambda: deployment(kube),
        lambda found: found and found["metadata"]["uid"] != before["metadata"]["uid"],
        seconds=30,
    )
    wait_for_repair(kube, before)
    assert deployment(kube)["metadata"]["uid"] != before["metadata"]["uid"]
