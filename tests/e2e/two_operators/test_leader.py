"""With two operators, one takes over when the other is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from demo import faults, install, waiting
from demo.kubernetes import Kube

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml",)
OPERATOR = "app.kubernetes.io%2Fcomponent%3Doperator"
LEASE = f"apis/coordination.k8s.io/v1/namespaces/{install.OPERATOR_NAMESPACE}/leases/celeriac"


def leader(kube: Kube) -> str:
    """The pod that holds the Lease, or an empty text: an operator that was killed long ago may still be named in it."""
    held = kube.read(LEASE)["spec"].get("holderIdentity", "") if install.exists(kube, LEASE) else ""
    present = {pod["metadata"]["name"] for pod in kube.at(install.OPERATOR_NAMESPACE).pods(OPERATOR)}
    return held if held in present else ""


@pytest.fixture(scope="module")
def system(shop, kube: Kube, images: Mapping[str, str]) -> Iterator[Kube]:
    """The operators' namespace with two of them; afterwards there is one again."""
    install.install_chart(kube.programs, images, "replicas=2")
    yield kube.at(install.OPERATOR_NAMESPACE)
    install.install_chart(kube.programs, images)


def delete(system: Kube, pod: Any) -> None:
    """As a drained node does: it ends cleanly."""
    system.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")


def freeze(system: Kube, pod: Any) -> None:
    """It neither works nor gives anything back, until its liveness probe has it killed."""
    faults.send(system, pod, "operator", "STOP")


@pytest.mark.parametrize(
    "lose", [pytest.param(delete, id="its pod is deleted"), pytest.param(freeze, id="its process is frozen")]
)
def test_the_other_one_goes_on(system: Kube, kube: Kube, a_pool, lose: Callable[[Kube, Any], None]):
    first = waiting.until("somebody leads", lambda: leader(kube), bool, seconds=90)
    lost = next(pod for pod in system.pods(OPERATOR) if pod["metadata"]["name"] == first)
    lose(system, lost)
    began = time.monotonic()
    name = lose.__name__
    kube.apply(a_pool(name))
    second = waiting.until("another one leads", lambda: leader(kube), lambda held: held not in ("", first), seconds=120)
    print(f"taken over after {time.monotonic() - began:.1f} s")
    kube.wait_ready(name, seconds=180)
    assert second in {pod["metadata"]["name"] for pod in system.pods(OPERATOR)}
    # Two again, for the next; a frozen one would stay until its probe has failed often enough.
    system.kubectl("delete", "pod", first, "--ignore-not-found", "--grace-period=0", "--force")
    system.kubectl("rollout", "status", "deployment/celeriac", "--timeout=120s")
