"""What does /metrics say?

Read at each scrape from what the worker knows of itself; nothing is counted on the side, so a scrape costs what a
probe costs. Labelled by pool and never by pod: the scraper adds the pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from celeriac.health.rules import Observed

GAUGES: tuple[tuple[str, str, Callable[[Observed], float]], ...] = (
    ("celeriac_worker_slots", "Tasks that can run at the same time.", lambda seen: seen.slots or 0),
    ("celeriac_worker_busy_slots", "Tasks that run.", lambda seen: len(seen.running)),
    ("celeriac_worker_prefetched_messages", "Messages held for a slot.", lambda seen: seen.prefetched),
    ("celeriac_worker_scheduled_messages", "Messages held for their time (ETA).", lambda seen: seen.scheduled),
    (
        "celeriac_worker_oldest_task_seconds",
        "How long the longest of the running tasks runs, in seconds.",
        lambda seen: max((task.seconds for task in seen.running), default=0),
    ),
    ("celeriac_worker_consuming", "1 while messages are taken from the broker.", lambda seen: seen.consuming),
    ("celeriac_worker_draining", "1 while the worker is leaving.", lambda seen: seen.draining_seconds is not None),
    ("celeriac_worker_uptime_seconds", "Since the worker started, in seconds.", lambda seen: seen.uptime_seconds),
)
"""Name, description and value of every gauge."""

COUNTERS: tuple[tuple[str, str, Callable[[Observed], float]], ...] = (
    ("celeriac_broker_losses", "Connections to the broker that broke.", lambda seen: seen.broker_losses),
)
"""Likewise of every counter; the exposition format adds `_total`."""


class WorkerMetrics:
    """The body of /metrics for one worker of `pool` in `namespace`."""

    def __init__(self, observe: Callable[[], Observed], *, namespace: str, pool: str) -> None:
        self.observe = observe
        self.labels = {"namespace": namespace, "pool": pool}
        # A registry of its own: the application's default registry is the application's.
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Every metric with its present value."""
        seen = self.observe()
        for name, description, value in GAUGES:
            gauge = GaugeMetricFamily(name, description, labels=list(self.labels))
            gauge.add_metric(list(self.labels.values()), float(value(seen)))
            yield gauge
        for name, description, value in COUNTERS:
            counter = CounterMetricFamily(name, description, labels=list(self.labels))
            counter.add_metric(list(self.labels.values()), float(value(seen)))
            yield counter

    def render(self) -> tuple[bytes, str]:
        """The text of /metrics and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
