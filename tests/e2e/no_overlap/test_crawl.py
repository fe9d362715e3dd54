"""Work that must not overlap does not, and nothing else waits for it."""

from __future__ import annotations

from demo.scenarios import crawl
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_two_crawls_of_one_site_run_one_after_the_other_and_another_site_beside_them(shop: Shop):
    measured = crawl.run(shop)
    assert [each.pages for each in (*measured.same_site, measured.other_site)] == [3, 3, 3]
    assert measured.gap_seconds >= 0
    assert measured.seconds_beside > 0


def test_a_crawl_that_fails_lets_the_next_one_in(shop: Shop):
    broken = shop.start("crawl", site="ftp://shop")
    assert shop.wait_for_result(broken, seconds=60).state == "FAILURE"
    again = shop.start("crawl", site="ftp://shop")
    assert "is not a web address" in shop.wait_for_result(again, seconds=60).error
