"""How is the page of /metrics written?

At each scrape, gauges and the broker's counters are read from the worker's state. The other counters and the histograms
come from the tally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from celeriac import counts
from celeriac.counts import Count, Timing
from celeriac.health.rules import Observed
from celeriac.metrics.tally import Snapshot


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric whose value is read from the worker's state."""

    name: str
    unit: str
    meaning: str
    value: Callable[[Observed], float | None]


GAUGES: tuple[Reading, ...] = (
    Reading("celeriac_worker_slots", "slots", "Tasks that can run at the same time.", lambda seen: seen.slots),
    Reading("celeriac_worker_busy_slots", "slots", "Tasks that run.", lambda seen: len(seen.running)),
    Reading(
        "celeriac_worker_prefetched_messages", "messages", "Messages held for a slot.", lambda seen: seen.prefetched
    ),
    Reading(
        "celeriac_worker_scheduled_messages",
        "messages",
        "Messages held for their time (ETA); 0 on Celery before 5.6, which keeps no list of them.",
        lambda seen: seen.scheduled,
    ),
    Reading(
        "celeriac_worker_in_flight_messages",
        "messages",
        "Messages delivered and not settled: running, held for a slot, held for their time.",
        lambda seen: len(seen.running) + seen.prefetched + seen.scheduled,
    ),
    Reading(
        "celeriac_worker_oldest_task_seconds",
        "seconds",
        "How long the longest of the running tasks runs, in seconds.",
        lambda seen: max((task.seconds for task in seen.running), default=0),
    ),
    Reading(
        "celeriac_worker_consuming",
        "0 or 1",
        "1 while messages are taken from the broker.",
        lambda seen: seen.consuming,
    ),
    Reading(
        "celeriac_worker_draining",
        "0 or 1",
        "1 while the worker is leaving.",
        lambda seen: seen.draining_seconds is not None,
    ),
    Reading(
        "celeriac_worker_uptime_seconds",
        "seconds",
        "Since the worker started, in seconds.",
        lambda seen: seen.uptime_seconds,
    ),
)

COUNTERS: tuple[Reading, ...] = (
    Reading(
        "celeriac_broker_losses",
        "connections",
        "Connections to the broker that broke.",
        lambda seen: seen.broker_losses,
    ),
    Reading(
        "celeriac_broker_reconnects",
        "connections",
        "Connections to the broker that were made after one had broken.",
        lambda seen: seen.broker_reconnects,
    ),
)
"""Counted by `Vitals`. The exposition format adds `_total` to the names."""


class WorkerMetrics:
    """The body of /metrics for one worker of `pool` in `namespace`.

    Args:
        observe: returns the state of the worker; called for each scrape.
        snapshot: returns all counts; called for each scrape.
        namespace: the pool's namespace.
        pool: the pool's name.
    """

    def __init__(
        self, observe: Callable[[], Observed], snapshot: Callable[[], Snapshot], *, namespace: str, pool: str
    ) -> None:
        self.observe = observe
        self.snapshot = snapshot
        self.names = ("namespace", "pool")
        self.values = (namespace, pool)
        # A separate registry, because the default one belongs to the application.
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return nothing. Without this method the registry would collect all metrics once when it registers this."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every metric with its current value."""
        seen, counted = self.observe(), self.snapshot()
        for reading in GAUGES:
            gauge = GaugeMetricFamily(reading.name, reading.meaning, labels=self.names)
            gauge.add_metric(self.values, float(reading.value(seen) or 0))
            yield gauge
        for reading in COUNTERS:
            counter = CounterMetricFamily(reading.name, reading.meaning, labels=self.names)
            counter.add_metric(self.values, float(reading.value(seen) or 0))
            yield counter
        for what in counts.definitions():
            yield self._count(what, counted) if isinstance(what, Count) else self._timing(what, counted)

    def _count(self, what: Count, counted: Snapshot) -> Metric:
        family = CounterMetricFamily(what.name, what.meaning, labels=(*self.names, *what.labels))
        rows = counted.counts.get(what.name, {})
        if not what.labels:
            rows = {(): 0.0, **rows}  # a rate needs the zero before the first count
        for labels, value in rows.items():
            family.add_metric((*self.values, *labels), value)
        return family

    def _timing(self, what: Timing, counted: Snapshot) -> Metric:
        family = HistogramMetricFamily(what.name, what.meaning, labels=(*self.names, *what.labels))
        bounds = [*(f"{bound:g}" for bound in what.bounds), "+Inf"]
        for labels, found in counted.timings.get(what.name, {}).items():
            buckets = list(zip(bounds, map(float, accumulate(found.buckets)), strict=True))
            family.add_metric((*self.values, *labels), buckets, found.sum_seconds)
        return family

    def render(self) -> tuple[bytes, str]:
        """The text of /metrics and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
