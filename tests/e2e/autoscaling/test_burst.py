"""A burst gets the workers that it needs, from zero to many and back to zero, and no task is lost."""

from __future__ import annotations

from demo.kubernetes import condition_of
from demo.scenarios import burst
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")
MOST = 5  # as examples/shop.yaml has it


def test_from_none_to_many_and_back(shop: Shop):
    # Nothing is wrong with a pool that rests.
    shop.kube.wait_ready(burst.POOL)
    assert condition_of(shop.kube.pool(burst.POOL), "Ready").reason == "ScaledToZero"

    measured = burst.run(shop)
    assert measured.done == measured.tasks
    assert measured.most == MOST

    shop.kube.wait_ready(burst.POOL)
    scaling = shop.kube.pool(burst.POOL)["status"]["scaling"]
    assert scaling["desiredReplicas"] == 0
    turns = [(each["fromReplicas"], each["toReplicas"]) for each in reversed(scaling["decisions"])]
    assert turns[0][0] == 0
    assert turns[-1][1] == 0
    assert max(after for _, after in turns) == MOST
    assert all(each["reason"] for each in scaling["decisions"])
