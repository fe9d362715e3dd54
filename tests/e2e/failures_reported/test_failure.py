"""Every failure reaches Sentry, once, and says where it comes from."""

from __future__ import annotations

from demo.scenarios import failure
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_a_failing_task_is_one_event_that_names_task_id_and_pool(shop: Shop):
    measured = failure.run(shop)
    assert measured.events == 1
    assert measured.names_task
    assert measured.names_id
    assert measured.names_pool
    assert "django" in measured.integrations, "the shop is a Django site"
    assert measured.error.startswith("PaymentDeclinedError: the bank declined the card of order")
