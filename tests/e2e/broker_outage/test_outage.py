"""Redis stops and starts again: no worker is restarted, nothing is lost, and nobody has to act."""

from __future__ import annotations

from demo.scenarios import redis_outage
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml", "plain.yaml")


def test_work_resumes_by_itself_after_redis_was_away(shop: Shop):
    measured = redis_outage.run(shop)
    assert measured.away_seconds >= redis_outage.OUTAGE_SECONDS
    assert not any(measured.restarted.values())
    assert measured.pods_kept
    assert measured.not_ready_meanwhile
    assert measured.finished == measured.started
    assert measured.seconds_to_resume < 40
