"""`helm uninstall` keeps what it says: workers continue, and the next operator takes them over unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from demo import install, waiting
from demo.kubernetes import Kube, restarts

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml",)
POOL = "reports"


@pytest.fixture
def uninstalled(shop, kube: Kube, a_pool, images: Mapping[str, str]) -> Iterator[str]:
    """A ready pool whose operator is gone; yields what the release had said about that. Installed again at the end."""
    kube.apply(a_pool(POOL))
    kube.wait_ready(POOL, seconds=180)
    release = ("celeriac", "--namespace", install.OPERATOR_NAMESPACE)
    notes = kube.programs.run(["helm", "get", "notes", *release])
    kube.programs.run(["helm", "uninstall", *release, "--wait"])
    yield notes
    install.install_chart(kube.programs, images)


def workers(kube: Kube) -> dict[str, dict[str, int]]:
    """Each worker's identity and how often its containers were restarted."""
    return {pod["metadata"]["uid"]: restarts([pod]) for pod in kube.pool_pods(POOL)}


def test_workers_run_on_and_are_taken_up_again(kube: Kube, images: Mapping[str, str], uninstalled: str):
    assert "leaves the CeleryWorkerPool definition, every pool and everything that pools are made of" in uninstalled
    assert install.exists(kube, install.DEFINITION_PATH)
    before = workers(kube)
    assert len(before) == 1
    label = "--selector=app.kubernetes.io/instance=celeriac"
    kinds = "clusterroles,clusterrolebindings,deployments,serviceaccounts,roles,rolebindings,configmaps,secrets,pods"
    left = waiting.until(
        "the operator's pod has ended",
        lambda: kube.at(install.OPERATOR_NAMESPACE).kubectl("get", kinds, label, "--output=name").split(),
        lambda names: not any(name.startswith("pod/") for name in names),
        seconds=120,
    )
    assert left == []

    # What is changed meanwhile waits.
    kube.kubectl("scale", f"cwp/{POOL}", "--replicas=2")
    install.install_chart(kube.programs, images)
    waiting.until("the pool has two workers", lambda: workers(kube), lambda seen: len(seen) == 2, seconds=120)
    kube.wait_ready(POOL, seconds=180)
    assert before.items() <= workers(kube).items()
