"""Which metrics does the operator export? Each has a unit and a meaning; they have a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Conditions = Callable[[], Mapping[tuple[str, str, str], int]]
"""How many pools have each condition: type, status, reason."""


MOST_POOLS = 2000
"""Pools with series of their own. In a cluster with more, the first ones by name have them."""

ConditionsByPool = Callable[[], Iterable[tuple[str, str, str, str, str]]]
"""Conditions of pools: namespace, name, type, status, reason."""

EXPORTED_TYPES = ("Ready", "Stalled", "BrokerReachable", "Working", "ScalingActive")
"""Condition types that are exported by pool."""


class PoolConditions(Collector):
    """Counts pools by condition at each scrape, so that a condition which no pool has any more disappears."""

    def __init__(self) -> None:
        self.read: Conditions = dict

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the metric."""
        family = GaugeMetricFamily(
            "celeriac_operator_pool_conditions",
            "Pools by condition: its type, its status (True, False, Unknown) and its reason.",
            labels=["type", "status", "reason"],
        )
        for words, pools in sorted(self.read().items()):
            family.add_metric(words, pools)
        yield family


class NamedConditions(Collector):
    """Exports the conditions of each pool at each scrape, for at most MOST_POOLS pools."""

    def __init__(self) -> None:
        self.read: ConditionsByPool = list

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the metric."""
        family = GaugeMetricFamily(
            "celeriac_operator_pool_condition",
            f"1 for each pool and each of its conditions {', '.join(EXPORTED_TYPES)}, with its status and its reason.",
            labels=["pool_namespace", "pool", "type", "status", "reason"],
        )
        pools: set[tuple[str, str]] = set()
        for words in sorted(self.read()):
            pools.add(words[:2])
            if len(pools) > MOST_POOLS:
                break
            if words[2] in EXPORTED_TYPES:
                family.add_metric(words, 1)
        yield family


@dataclass(frozen=True, kw_only=True)
class ScalingSample:
    """The newest figures of one pool with autoscaling, and their age."""

    namespace: str
    pool: str
    replicas: int
    backlog: int
    in_flight: int
    busy_slots: int
    oldest_seconds: float | None
    age_seconds: float


@dataclass(frozen=True, kw_only=True)
class QueueSample:
    """The queues of one pool."""

    namespace: str
    pool: str
    replicas: int
    backlog: int
    oldest_seconds: float | None
    max_replicas: int | None
    latency_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class WorkSample:
    """What the workers of one pool replied."""

    namespace: str
    pool: str
    workers: int
    slots: int
    busy: int
    oldest_seconds: float
    stuck: int
    succeeded: int
    failed: int
    dead_letters: int


class Sample(Protocol):
    """Figures of one pool."""

    @property
    def namespace(self) -> str: ...
    @property
    def pool(self) -> str: ...


S = TypeVar("S", bound=Sample)


class PoolFigures(Collector, Generic[S]):
    """Exports figures by pool as they are at the scrape, for at most MOST_POOLS pools.

    Args:
        prefix: beginning of the names of the metrics.
        table: name, meaning and value of each; a value that is None is left out.
    """

    def __init__(self, prefix: str, table: tuple[tuple[str, str, Callable[[S], float | None]], ...]) -> None:
        self.read: Callable[[], Iterable[S]] = list
        self._prefix = prefix
        self._table = table

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield one metric for each figure."""
        found = sorted(self.read(), key=lambda sample: (sample.namespace, sample.pool))[:MOST_POOLS]
        for name, meaning, value in self._table:
            family = GaugeMetricFamily(f"{self._prefix}_{name}", meaning, labels=["pool_namespace", "pool"])
            for sample in found:
                if (said := value(sample)) is not None:
                    family.add_metric([sample.namespace, sample.pool], said)
            yield family


SCALING_SAMPLES: tuple[tuple[str, str, Callable[[ScalingSample], float | None]], ...] = (
    (
        "replicas",
        "Desired workers of a pool with autoscaling.",
        lambda sample: sample.replicas,
    ),
    (
        "backlog_messages",
        "Messages waiting in the queues of a pool with autoscaling.",
        lambda sample: sample.backlog,
    ),
    (
        "in_flight_messages",
        "Messages that the pool's workers hold and have not finished.",
        lambda sample: sample.in_flight,
    ),
    (
        "oldest_message_seconds",
        "Seconds that the oldest waiting message has waited; absent if the producer did not record when it was sent.",
        lambda sample: sample.oldest_seconds,
    ),
    ("busy_slots", "Slots of the pool's workers that are running a task.", lambda sample: sample.busy_slots),
    (
        "figures_age_seconds",
        "Seconds since these figures were read; above 10, the number of workers is not changed.",
        lambda sample: sample.age_seconds,
    ),
)


QUEUE_SAMPLES: tuple[tuple[str, str, Callable[[QueueSample], float | None]], ...] = (
    ("backlog_messages", "Messages waiting in the pool's queues.", lambda sample: sample.backlog),
    (
        "oldest_message_seconds",
        "Seconds that the oldest waiting message has waited; absent if none waits, or if the producer did not record "
        "when it was sent.",
        lambda sample: sample.oldest_seconds,
    ),
    ("replicas", "The pool's `spec.replicas`.", lambda sample: sample.replicas),
    (
        "max_replicas",
        "The pool's `autoscaling.maxReplicas`; absent without autoscaling.",
        lambda sample: sample.max_replicas,
    ),
    (
        "latency_target_seconds",
        "The pool's `autoscaling.target.latencySeconds`; absent without such a target.",
        lambda sample: sample.latency_seconds,
    ),
)

WORK_SAMPLES: tuple[tuple[str, str, Callable[[WorkSample], float | None]], ...] = (
    ("reporting_workers", "Workers of the pool that replied to the operator.", lambda sample: sample.workers),
    ("slots", "Slots of these workers.", lambda sample: sample.slots),
    ("busy_slots", "Slots that run a task.", lambda sample: sample.busy),
    ("oldest_task_seconds", "Seconds that the oldest running task has run.", lambda sample: sample.oldest_seconds),
    (
        "stuck_tasks",
        "Tasks past their hard time limit, or running for more than an hour without one.",
        lambda sample: sample.stuck,
    ),
    ("recent_succeeded_tasks", "Tasks that succeeded in the last 15 minutes.", lambda sample: sample.succeeded),
    ("recent_failed_tasks", "Tasks that failed in the last 15 minutes.", lambda sample: sample.failed),
    (
        "recent_dead_letters",
        "Messages that were put into the dead-letter queue in the last 15 minutes.",
        lambda sample: sample.dead_letters,
    ),
)


class Metrics:
    """All metrics of the operator. Built once at start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._add_passes()
        self._add_cluster()
        self._add_state()
        self._add_scaling()

    def _add_passes(self) -> None:
        self.reconciles = Counter(
            "celeriac_operator_reconciles_total",
            "Reconciliations of a pool, by result: done, refused (the API server refused an object), error.",
            ["result"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "celeriac_operator_reconcile_duration_seconds",
            "Duration of one reconciliation of a pool.",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
            registry=self.registry,
        )

    def _add_cluster(self) -> None:
        self.api_requests = Counter(
            "celeriac_operator_api_requests_total",
            "Requests to the Kubernetes API without watches, by verb, resource and HTTP status (0: no response).",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            "celeriac_operator_watch_events_total",
            "Watch events received, by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_last_event = Gauge(
            "celeriac_operator_watch_last_event_timestamp_seconds",
            "Unix time of the last watch event, by kind of object. A watch restarts every half hour and then delivers "
            "every object again, so while objects exist this is never much older than that.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_missed = Counter(
            "celeriac_operator_watch_missed_total",
            "Objects whose newest version the watch had not delivered when the caches were compared with the cluster, "
            "by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.shrink_answers = Counter(
            "celeriac_operator_shrink_answers_total",
            "Workers asked for their state before a scale-down, by reply: idle, busy, none (no reply in time; the "
            "worker counts as busy).",
            ["answer"],
            registry=self.registry,
        )

    def _add_state(self) -> None:
        self._queue_depth = Gauge(
            "celeriac_operator_queue_depth", "Pools waiting to be reconciled.", registry=self.registry
        )
        self._queue_age = Gauge(
            "celeriac_operator_queue_oldest_seconds",
            "Seconds that the longest-waiting pool has waited to be reconciled; 0 on a replica that does not lead.",
            registry=self.registry,
        )
        self._pools = Gauge("celeriac_operator_pools", "Pools in the watched namespaces.", registry=self.registry)
        self._conditions = PoolConditions()
        self.registry.register(self._conditions)
        self._named_conditions = NamedConditions()
        self.registry.register(self._named_conditions)
        self._leader = Gauge(
            "celeriac_operator_leader", "1 while this replica is the leader, else 0.", registry=self.registry
        )

    def _add_scaling(self) -> None:
        self.scaling_decisions = Counter(
            "celeriac_operator_scaling_decisions_total",
            "Changes of replicas by the autoscaler, by direction: up or down.",
            ["direction"],
            registry=self.registry,
        )
        self.scaling_round_seconds = Histogram(
            "celeriac_operator_scaling_round_duration_seconds",
            "Duration of reading all queues of one broker.",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=self.registry,
        )
        self.scaling_failures = Counter(
            "celeriac_operator_scaling_failures_total",
            "Failed readings of a broker, by the reason of the condition ScalingActive.",
            ["reason"],
            registry=self.registry,
        )
        self._scaling = PoolFigures("celeriac_operator_scaling", SCALING_SAMPLES)
        self.registry.register(self._scaling)
        self._queues = PoolFigures("celeriac_operator_pool", QUEUE_SAMPLES)
        self.registry.register(self._queues)
        self._work = PoolFigures("celeriac_operator_pool", WORK_SAMPLES)
        self.registry.register(self._work)

    def follow_scaling(self, read: Callable[[], Iterable[ScalingSample]]) -> None:
        """Read the autoscaler's figures at each scrape."""
        self._scaling.read = read

    def follow_queues(self, read: Callable[[], Iterable[QueueSample]]) -> None:
        """Read the figures of all pools' queues at each scrape."""
        self._queues.read = read

    def follow_work(self, read: Callable[[], Iterable[WorkSample]]) -> None:
        """Read what the workers replied at each scrape."""
        self._work.read = read

    def follow(
        self,
        *,
        depth: Callable[[], float],
        oldest: Callable[[], float],
        pools: Callable[[], float],
        leads: Callable[[], bool],
        conditions: Conditions,
        pool_conditions: ConditionsByPool = list,
    ) -> None:
        """Read these values at each scrape."""
        self._queue_depth.set_function(depth)
        self._queue_age.set_function(oldest)
        self._pools.set_function(pools)
        self._leader.set_function(leads)
        self._conditions.read = conditions
        self._named_conditions.read = pool_conditions

    def count_event(self, kind: str) -> None:
        """Count a watch event."""
        self.watch_events.labels(kind).inc()
        self.watch_last_event.labels(kind).set_to_current_time()

    def count_request(self, *, verb: str, plural: str, status: int) -> None:
        """Count a request to the API server."""
        self.api_requests.labels(verb, plural, str(status)).inc()
