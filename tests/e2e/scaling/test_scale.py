"""Pools are scaled by hand, and no task is lost when a worker is stopped, for whatever reason."""

from __future__ import annotations

import json
import time
from typing import Any

from demo import waiting
from demo.kubernetes import HttpError, Kube
from demo.scenarios import scaling
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_kubectl_scale_gives_the_pool_three_workers(shop: Shop):
    measured = scaling.run(shop, wanted=3)
    assert measured.before == 1
    assert measured.ready == 3
    deployment = shop.kube.read(f"apis/apps/v1/namespaces/{shop.kube.namespace}/deployments/{scaling.POOL}")
    assert deployment["spec"]["replicas"] == 3


def test_a_worker_that_leaves_finishes_its_tasks(shop: Shop):
    scaling.settle(shop.kube, 3)
    tasks = [shop.start("pack", order=shop.name("order"), seconds=8) for _ in range(16)]
    # Three workers of four slots each: nine running tasks are more than two workers have slots, so the one that is
    # removed runs some, and holds a message or two that it has not begun.
    waiting.until(
        "every worker has work in hand",
        lambda: [shop.result(task).state for task in tasks].count("STARTED"),
        lambda running: running >= 9,
        seconds=20,
    )
    shop.kube.kubectl("scale", f"cwp/{scaling.POOL}", "--replicas=1")
    results = [shop.wait_for_result(task, seconds=60) for task in tasks]
    assert [result.state for result in results] == ["SUCCESS"] * 16
    scaling.settle(shop.kube, 1)


def test_a_pool_that_shrinks_keeps_the_worker_that_is_busy(shop: Shop):
    scaling.settle(shop.kube, 3)
    task = shop.start("pack", order=shop.name("order"), seconds=15)
    busy = waiting.until("one worker is busy", lambda: busy_workers(shop.kube), lambda seen: len(seen) == 1, seconds=20)
    shop.kube.kubectl("scale", f"cwp/{scaling.POOL}", "--replicas=1")
    waiting.until("the idle ones are gone", lambda: workers(shop.kube), lambda seen: seen == busy, seconds=14)
    assert shop.result(task).state == "STARTED", "an idle worker leaves at once"
    assert shop.wait_for_result(task, seconds=30).state == "SUCCESS"
    assert workers(shop.kube) == busy


def test_rollout_eviction_and_a_node_that_is_taken_away_under_load_lose_nothing(shop: Shop):
    scaling.settle(shop.kube, 2)

    def start(count: int) -> list[str]:
        return [shop.start("pack", order=shop.name("order"), seconds=2) for _ in range(count)]

    def until_busy() -> list[str]:
        return waiting.until("both are busy", lambda: busy_workers(shop.kube), lambda seen: len(seen) == 2, seconds=30)

    tasks = start(24)
    until_busy()
    # A rollout, to the shortest lease that there is: when it has run out, a killed worker's tasks come again.
    lease = {"spec": {"delivery": {"leaseSeconds": 5}}}
    shop.kube.kubectl("patch", f"cwp/{scaling.POOL}", "--type=merge", f"--patch={json.dumps(lease)}")
    shop.kube.kubectl("rollout", "status", f"deployment/{scaling.POOL}", "--timeout=90s", seconds=100)
    # A drain of nodes: all pods are evicted, as far as the budget lets them go.
    tasks += start(24)
    for name in until_busy():
        waiting.until(f"{name} is evicted", lambda it=name: evict(shop.kube, it), bool, seconds=60)
    # A node that is taken away with hardly a warning.
    tasks += start(24)
    shop.kube.kubectl("delete", f"pod/{until_busy()[0]}", "--grace-period=1", "--wait=false")
    deadline = time.monotonic() + 90
    states = [shop.wait_for_result(task, seconds=max(deadline - time.monotonic(), 1)).state for task in tasks]
    assert states == ["SUCCESS"] * 72


def workers(kube: Kube) -> list[str]:
    """The pods of those that are not on their way out."""
    return [pod["metadata"]["name"] for pod in kube.pool_pods(scaling.POOL)]


def busy_workers(kube: Kube) -> list[str]:
    """Those of them that run a task."""
    return [name for name in workers(kube) if status(kube, name).get("busy")]


def status(kube: Kube, name: str) -> Any:
    """What a worker says of itself; nothing before it listens."""
    try:
        return kube.read(f"api/v1/namespaces/{kube.namespace}/pods/{name}:8787/proxy/status")
    except HttpError:
        return {}


def evict(kube: Kube, name: str) -> bool:
    """As kubectl drain does; whether the budget let the pod go."""
    metadata = {"name": name, "namespace": kube.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    try:
        kube.request("POST", f"api/v1/namespaces/{kube.namespace}/pods/{name}/eviction", body)
    except HttpError as error:
        if error.status != 429:
            raise
        return False
    return True


def test_applying_a_manifest_without_replicas_leaves_the_number_alone(shop: Shop):
    scaling.settle(shop.kube, 2)
    pool = shop.kube.pool(scaling.POOL)
    spec = {key: value for key, value in pool["spec"].items() if key in ("app", "image", "inject")}
    manifest = {
        "apiVersion": pool["apiVersion"],
        "kind": pool["kind"],
        "metadata": {"name": scaling.POOL},
        "spec": spec,
    }
    shop.kube.apply(manifest, "--field-manager=gitops", "--force-conflicts")
    shop.kube.wait_ready(scaling.POOL)
    assert shop.kube.pool(scaling.POOL)["spec"]["replicas"] == 2
    assert len(shop.kube.pool_pods(scaling.POOL)) == 2
