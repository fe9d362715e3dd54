"""Killing and restarting the operator changes nothing that was correct."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from demo import faults, install, waiting
from demo.kubernetes import Kube, restarts

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml", "plain.yaml")
POOLS = ("shop-tasks", "suppliers", "reports")
OPERATOR = "app.kubernetes.io%2Fcomponent%3Doperator"


def kill_operator(kube: Kube) -> None:
    """Kill the operator's process; the kubelet starts it again."""
    system = kube.at(install.OPERATOR_NAMESPACE)
    (pod,) = system.pods(OPERATOR)
    before = sum(restarts([pod]).values())
    faults.send(system, pod, "operator", "KILL")
    waiting.until(
        "the operator runs again",
        lambda: [(sum(restarts([pod]).values()), is_ready(pod)) for pod in system.pods(OPERATOR)],
        lambda seen: all(count > before and ready for count, ready in seen) and bool(seen),
        seconds=120,
    )


def is_ready(pod: Any) -> bool:
    """Whether all containers of a pod are ready."""
    return all(state["ready"] for state in pod["status"].get("containerStatuses", []))


def workers(kube: Kube) -> dict[str, dict[str, int]]:
    """Each worker's identity and how often its containers were restarted."""
    return {pod["metadata"]["uid"]: restarts([pod]) for pool in POOLS for pod in kube.pool_pods(pool)}


def generations(kube: Kube) -> dict[str, int]:
    """How often each Deployment's spec has been changed."""
    found = kube.read(f"apis/apps/v1/namespaces/{kube.namespace}/deployments")["items"]
    return {each["metadata"]["name"]: each["metadata"]["generation"] for each in found}


def test_no_worker_notices_that_the_operator_was_killed(shop, kube: Kube, a_pool):
    before = workers(kube), generations(kube)
    kill_operator(kube)
    # A new pool that gets ready proves that the new process has been through its queue.
    kube.apply(a_pool("witness", replicas=1))
    kube.wait_ready("witness")
    after = workers(kube), {name: count for name, count in generations(kube).items() if name != "witness"}
    assert after == before


def test_a_change_made_while_there_is_no_operator_takes_effect_when_it_is_back(shop, kube: Kube):
    system = kube.at(install.OPERATOR_NAMESPACE)
    system.kubectl("scale", "deployment", "--selector=app.kubernetes.io/component=operator", "--replicas=0")
    waiting.until("the operator is gone", lambda: len(system.pods(OPERATOR)), lambda count: count == 0, seconds=60)
    try:
        kube.kubectl("scale", "cwp/reports", "--replicas=2")
    finally:
        system.kubectl("scale", "deployment", "--selector=app.kubernetes.io/component=operator", "--replicas=1")
    waiting.until(
        "the pool has two workers",
        lambda: kube.pool("reports")["status"].get("readyReplicas"),
        lambda count: count == 2,
        seconds=120,
    )
    assert len(kube.pool_pods("reports")) == 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_operator_is_killed_in_the_middle_of_a_rollout(shop, kube: Kube, a_pool, seed: int):
    moment = random.Random(seed).uniform(0, 2)  # noqa: S311 - a moment, not a secret
    print(f"seed {seed}: killed {moment:.2f} s after the change")
    name = f"half-way-{seed}"
    kube.apply(a_pool(name))
    time.sleep(moment)  # the moment itself is what is tested
    kill_operator(kube)
    kube.wait_ready(name)
    assert len(kube.pool_pods(name)) == 1
    assert generations(kube)[name] == 1
