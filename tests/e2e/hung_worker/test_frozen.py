"""A worker that hangs is restarted, and its messages are delivered again."""

from __future__ import annotations

from demo.scenarios import frozen_worker
from demo.shop import Shop

POD_SECURITY = "privileged"  # SIGSTOP comes from a pod that sees the node's processes
NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml", "plain.yaml")


def test_a_stopped_process_is_restarted_and_its_task_still_finishes(shop: Shop):
    measured = frozen_worker.run(shop)
    assert measured.restarted == 1
    assert measured.state == "SUCCESS"
    assert measured.deliveries == 2
    assert measured.seconds_to_restart < 40
    assert measured.seconds_to_finish < 110
