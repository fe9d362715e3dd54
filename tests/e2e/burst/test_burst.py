"""A pool follows its queue from no worker to many and back, and every task is done."""

from __future__ import annotations

from demo.scenarios import burst
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_from_no_worker_to_many_and_back_with_every_task_done(shop: Shop):
    measured = burst.run(shop)
    print(measured.sentence())
    assert measured.shortfall() is None
    decisions = shop.kube.pool(burst.POOL)["status"]["scaling"]["decisions"]
    assert len(decisions) >= 2
