"""A burst of work is met by as many workers as it needs, from none to many and back, and nothing of it is lost."""

from __future__ import annotations

import json

from demo import waiting
from demo.kubernetes import condition_of
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")
POOL = "shop-tasks"
MOST = 3


def workers(shop: Shop) -> int:
    return len(shop.kube.pool_pods(POOL))


def test_from_none_to_many_and_back(shop: Shop):
    asked = {
        "minReplicas": 0,
        "maxReplicas": MOST,
        "target": {"backlogPerReplica": 4},
        "scaleDown": {"stabilizationSeconds": 5},
    }
    shop.kube.kubectl("patch", f"cwp/{POOL}", "--type=merge", "-p", json.dumps({"spec": {"autoscaling": asked}}))
    waiting.until("no worker is left", lambda: workers(shop), lambda count: count == 0, seconds=60)
    # Nothing is wrong with a pool that rests.
    shop.kube.wait_ready(POOL)
    assert condition_of(shop.kube.pool(POOL), "Ready").reason == "ScaledToZero"

    tasks = [shop.start("pack", order=shop.name("order"), seconds=3) for _ in range(24)]
    waiting.until("as many workers as may be", lambda: workers(shop), lambda count: count == MOST, seconds=30)
    results = [shop.wait_for_result(task, seconds=90) for task in tasks]
    assert [result.state for result in results] == ["SUCCESS"] * len(tasks)

    waiting.until("no worker is left", lambda: workers(shop), lambda count: count == 0, seconds=60)
    status = shop.kube.pool(POOL)["status"]
    assert (status["scaling"]["desiredReplicas"], status["backlog"]) == (0, 0)
    turns = [(each["fromReplicas"], each["toReplicas"]) for each in reversed(status["scaling"]["decisions"])]
    assert turns[0] == (1, 0)
    assert max(after for _, after in turns) == MOST
    assert all(each["reason"] for each in status["scaling"]["decisions"])
