"""The operator restores objects that others change or delete."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from demo import waiting
from demo.kubernetes import HttpError, Kube

NEEDS = ("redis.yaml",)
NUMBERS = itertools.count(1)


def deployment(kube: Kube, pool: str) -> Any:
    """The pool's Deployment, or None while there is none."""
    try:
        return kube.read(f"apis/apps/v1/namespaces/{kube.namespace}/deployments/{pool}")
    except HttpError as error:
        if error.status != 404:
            raise
        return None


@pytest.fixture
def pool(shop, kube: Kube, a_pool) -> Iterator[str]:
    """A pool of its own for each test: many corrections of one Deployment within two minutes count as a dispute."""
    name = f"reports-{next(NUMBERS)}"
    kube.apply(a_pool(name))
    kube.wait_ready(name)
    yield name
    kube.kubectl("delete", "cwp", name, "--wait=false")


def wait_for_repair(kube: Kube, pool: str, before: Any) -> None:
    waiting.until(
        "the Deployment is as it was",
        lambda: (deployment(kube, pool) or {}).get("spec"),
        lambda spec: spec == before["spec"],
        seconds=30,
    )
    kube.wait_ready(pool)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("scale", "deployment/POOL", "--replicas=3"), id="another number of replicas"),
        pytest.param(("set", "image", "deployment/POOL", "worker=localhost/other:1"), id="another image"),
        pytest.param(
            ("patch", "deployment/POOL", "--type=json",
             '--patch=[{"op": "remove", "path": "/spec/template/spec/containers/0/livenessProbe"}]'),
            id="no liveness probe",
        ),
        pytest.param(
            ("set", "env", "deployment/POOL", "--containers=worker", "CELERIAC_CONFIG={}"),
            id="another configuration",
        ),
    ],
)  # fmt: skip
def test_an_edited_deployment_is_put_right(kube: Kube, pool: str, change: tuple[str, ...]):
    before = deployment(kube, pool)
    kube.kubectl(*(word.replace("POOL", pool) for word in change))
    wait_for_repair(kube, pool, before)
    assert deployment(kube, pool)["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_deleted_deployment_comes_back(kube: Kube, pool: str):
    before = deployment(kube, pool)
    kube.kubectl("delete", f"deployment/{pool}", "--wait=false")
    waiting.until(
        "there is a new Deployment",
        lambda: deployment(kube, pool),
        lambda found: found and found["metadata"]["uid"] != before["metadata"]["uid"],
        seconds=30,
    )
    wait_for_repair(kube, pool, before)
    assert deployment(kube, pool)["metadata"]["uid"] != before["metadata"]["uid"]
