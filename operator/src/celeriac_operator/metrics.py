"""The operator's own metrics, each with its unit and meaning, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Conditions = Callable[[], Mapping[tuple[str, str, str], int]]
"""How many pools have each condition: type, status, reason."""


class PoolConditions(Collector):
    """Counts pools when the metrics are asked for: what no pool says any more is not reported any more."""

    def __init__(self) -> None:
        self.read: Conditions = dict

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The one metric of this collector."""
        family = GaugeMetricFamily(
            "celeriac_operator_pool_conditions",
            "Pools by condition: its type, its status (True, False, Unknown) and its reason.",
            labels=["type", "status", "reason"],
        )
        for words, pools in sorted(self.read().items()):
            family.add_metric(words, pools)
        yield family


@dataclass(frozen=True, kw_only=True)
class ScalingSample:
    """The newest figures of one pool with autoscaling, and how old they are."""

    namespace: str
    pool: str
    replicas: int
    backlog: int
    in_flight: int
    busy_slots: int
    oldest_seconds: float | None
    age_seconds: float


class Scaling(Collector):
    """Figures of the pools with autoscaling, of the moment when the metrics are asked for."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[ScalingSample]] = list

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One metric for each figure."""
        found = list(self.read())
        for name, meaning, value in SCALING_SAMPLES:
            family = GaugeMetricFamily(f"celeriac_operator_scaling_{name}", meaning, labels=["pool_namespace", "pool"])
            for sample in found:
                if (said := value(sample)) is not None:
                    family.add_metric([sample.namespace, sample.pool], said)
            yield family


SCALING_SAMPLES: tuple[tuple[str, str, Callable[[ScalingSample], float | None]], ...] = (
    (
        "replicas",
        "Workers that a pool with autoscaling asks for.",
        lambda sample: sample.replicas,
    ),
    (
        "backlog_messages",
        "Messages that wait in the queues of a pool with autoscaling.",
        lambda sample: sample.backlog,
    ),
    (
        "in_flight_messages",
        "Messages that the pool's workers have and have not finished.",
        lambda sample: sample.in_flight,
    ),
    (
        "oldest_message_seconds",
        "Seconds that the oldest waiting message has waited; absent where nobody noted when it was sent.",
        lambda sample: sample.oldest_seconds,
    ),
    ("busy_slots", "Slots of the pool's workers that run a task.", lambda sample: sample.busy_slots),
    (
        "figures_age_seconds",
        "Seconds since these figures were read; above 10 the number of workers stays as it is.",
        lambda sample: sample.age_seconds,
    ),
)


class Metrics:
    """All metrics. Made once, handed to whom it concerns."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._add_passes()
        self._add_cluster()
        self._add_state()
        self._add_scaling()

    def _add_passes(self) -> None:
        self.reconciles = Counter(
            "celeriac_operator_reconciles_total",
            "Passes over a pool, by result: done, refused (the API server did not take an object), error.",
            ["result"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "celeriac_operator_reconcile_duration_seconds",
            "Seconds of one pass over a pool.",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
            registry=self.registry,
        )

    def _add_cluster(self) -> None:
        self.api_requests = Counter(
            "celeriac_operator_api_requests_total",
            "Requests to the Kubernetes API, watches left out, by verb, resource and HTTP status (0: no answer).",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            "celeriac_operator_watch_events_total",
            "Events that the watches delivered, by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_last_event = Gauge(
            "celeriac_operator_watch_last_event_timestamp_seconds",
            "When the watches last delivered an event, as Unix time, by kind of object. Watches begin anew after half "
            "an hour and deliver all objects then: where there is an object, this is never much older.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_missed = Counter(
            "celeriac_operator_watch_missed_total",
            "Objects of which the cluster knew something newer than the watches had delivered, by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.shrink_answers = Counter(
            "celeriac_operator_shrink_answers_total",
            "Workers that were asked what they do before their pool shrank, by answer: idle, busy, none (it did not "
            "come in time, and the worker counts as busy).",
            ["answer"],
            registry=self.registry,
        )

    def _add_state(self) -> None:
        self._queue_depth = Gauge(
            "celeriac_operator_queue_depth", "Pools that wait for a pass.", registry=self.registry
        )
        self._queue_age = Gauge(
            "celeriac_operator_queue_oldest_seconds",
            "Seconds for which the first of the waiting pools has waited; 0 where the replica does not lead.",
            registry=self.registry,
        )
        self._pools = Gauge("celeriac_operator_pools", "Pools that the operator serves.", registry=self.registry)
        self._conditions = PoolConditions()
        self.registry.register(self._conditions)
        self._leader = Gauge(
            "celeriac_operator_leader", "1 while this replica does the work, 0 while it waits.", registry=self.registry
        )

    def _add_scaling(self) -> None:
        self.scaling_decisions = Counter(
            "celeriac_operator_scaling_decisions_total",
            "Changes of a pool's replicas by the autoscaler, by direction: up or down.",
            ["direction"],
            registry=self.registry,
        )
        self.scaling_round_seconds = Histogram(
            "celeriac_operator_scaling_round_duration_seconds",
            "Seconds of one reading of all queues on one broker.",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=self.registry,
        )
        self.scaling_failures = Counter(
            "celeriac_operator_scaling_failures_total",
            "Readings of a broker that gave no figures, by reason of the condition ScalingActive.",
            ["reason"],
            registry=self.registry,
        )
        self._scaling = Scaling()
        self.registry.register(self._scaling)

    def follow_scaling(self, read: Callable[[], Iterable[ScalingSample]]) -> None:
        """Read the autoscaler's figures whenever the metrics are asked for."""
        self._scaling.read = read

    def follow(
        self,
        *,
        depth: Callable[[], float],
        oldest: Callable[[], float],
        pools: Callable[[], float],
        leads: Callable[[], bool],
        conditions: Conditions,
    ) -> None:
        """Read these figures whenever the metrics are asked for."""
        self._queue_depth.set_function(depth)
        self._queue_age.set_function(oldest)
        self._pools.set_function(pools)
        self._leader.set_function(leads)
        self._conditions.read = conditions

    def count_event(self, kind: str) -> None:
        """One event of a watch."""
        self.watch_events.labels(kind).inc()
        self.watch_last_event.labels(kind).set_to_current_time()

    def count_request(self, *, verb: str, plural: str, status: int) -> None:
        """One answer of the API server."""
        self.api_requests.labels(verb, plural, str(status)).inc()
