"""Two crawls of one site never overlap; a crawl of another site runs beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from demo.shop import Shop


@dataclass(frozen=True)
class Crawl:
    """When one crawl ran, and what it read."""

    site: str
    pages: int
    started: datetime
    finished: datetime


@dataclass(frozen=True)
class Measured:
    """Three crawls: two of one site, one of another, all started at the same time."""

    same_site: tuple[Crawl, Crawl]
    other_site: Crawl

    @property
    def gap_seconds(self) -> float:
        """Seconds from the end of the site's first crawl to the start of its second; negative: they overlapped."""
        first, second = sorted(self.same_site, key=lambda crawl: crawl.started)
        return (second.started - first.finished).total_seconds()

    @property
    def seconds_beside(self) -> float:
        """Seconds in which the other site was crawled while this one was."""
        return max(overlap_seconds(self.other_site, crawl) for crawl in self.same_site)

    def sentence(self) -> str:
        first = min(self.same_site, key=lambda crawl: crawl.started)
        lasted = (first.finished - first.started).total_seconds()
        return (
            f"the first crawl of {first.site} took {lasted:.1f} s, the second began {self.gap_seconds:.2f} s after it; "
            f"another site was crawled beside them for {self.seconds_beside:.1f} s"
        )

    def shortfall(self) -> str | None:
        if self.gap_seconds < 0:
            return f"the two crawls of one site overlapped for {-self.gap_seconds:.2f} s"
        if self.seconds_beside <= 0:
            return "the crawl of another site had to wait, although it was nobody's turn it could take"
        return None


def overlap_seconds(one: Crawl, other: Crawl) -> float:
    """Return for how long two crawls ran at the same time, in seconds."""
    return max(0.0, (min(one.finished, other.finished) - max(one.started, other.started)).total_seconds())


def run(shop: Shop) -> Measured:
    """Start the three crawls and read from their results when each ran."""
    site = "http://shop"
    other = f"http://shop.{shop.kube.namespace}.svc"  # the same pages at another address: another site to a crawler
    tasks = [shop.start("crawl", site=address) for address in (site, site, other)]
    crawls = [read_crawl(shop, task) for task in tasks]
    return Measured((crawls[0], crawls[1]), crawls[2])


def read_crawl(shop: Shop, task_id: str) -> Crawl:
    """Wait for a crawl and return when it ran.

    Raises:
        RuntimeError: it failed.
    """
    result = shop.wait_for_result(task_id, seconds=60)
    if result.state != "SUCCESS":
        raise RuntimeError(f"the crawl failed: {result.error}")
    value = result.value
    return Crawl(
        value["site"],
        value["pages"],
        datetime.fromisoformat(value["started"]),
        datetime.fromisoformat(value["finished"]),
    )
