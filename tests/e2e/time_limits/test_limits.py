"""A task that never returns is ended, and its worker continues."""

from __future__ import annotations

import pytest

from demo.scenarios import time_limits
from demo.shop import Shop

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_the_soft_limit_ends_a_task_that_hangs(shop: Shop):
    measured = time_limits.run_soft(shop)
    assert "SoftTimeLimitExceeded" in measured.error
    assert measured.limit_seconds <= measured.seconds < measured.limit_seconds + 5
    assert not any(measured.restarted.values())


def test_the_hard_limit_ends_a_task_that_ignores_the_soft_one(shop: Shop):
    measured = time_limits.run_hard(shop)
    assert "TimeLimitExceeded" in measured.error
    assert "Soft" not in measured.error
    assert measured.limit_seconds <= measured.seconds < measured.limit_seconds + 5
    assert not any(measured.restarted.values())


def test_a_killed_task_reaches_sentry_although_its_process_is_dead(shop: Shop):
    supplier = shop.name("supplier")
    task_id = shop.start("ask_supplier", supplier=supplier, stubborn=True)
    shop.wait_for_result(task_id, seconds=40)
    events = [event for event in shop.wait_for_events(task_id, seconds=60) if "TimeLimitExceeded" in str(event)]
    assert len(events) == 1
