"""How does the number of workers follow the queues?"""

from __future__ import annotations

from typing import Annotated

from celeriac_operator.resource.base import Model, Rule, bound, rules

IS_MANAGEMENT_URL = Rule(
    cel=r"self.matches('^https?://([\\w.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?/?$')",
    message="must be the URL of RabbitMQ's management API, for example http://rabbit:15672: a host and a port, without "
    "a path, and without user and password, which are those of the broker URL",
)

DAY_SECONDS = 24 * 3600

ONE_TARGET = Rule(
    cel="[has(self.backlogPerReplica), has(self.latencySeconds), has(self.busySlotsPercent)]"
    ".filter(given, given).size() == 1",
    message="set exactly one of backlogPerReplica, latencySeconds and busySlotsPercent",
)
MIN_UP_TO_MAX = Rule(
    cel="self.minReplicas <= self.maxReplicas",
    message="minReplicas must be at most maxReplicas",
    field_path=".minReplicas",
)


class Target(Model):
    """The target that determines the number of workers. Set exactly one field."""

    model_config = rules(ONE_TARGET)

    backlog_per_replica: Annotated[int, bound(ge=1, le=1_000_000)] | None = None
    """Messages per worker, ready or in flight."""
    latency_seconds: Annotated[int, bound(ge=1, le=DAY_SECONDS)] | None = None
    """Longest time, in seconds, that a message should wait before it starts. On Redis, workers measure how long tasks
    take; until then, and on RabbitMQ, a task is assumed to take as long as this."""
    busy_slots_percent: Annotated[int, bound(ge=1, le=100)] | None = None
    """Percentage of all slots that should be busy; each waiting message counts as one more busy slot."""


class ScaleDown(Model):
    """How the pool is scaled down."""

    stabilization_seconds: Annotated[int, bound(ge=0, le=DAY_SECONDS)] = 60
    """Stabilisation window in seconds: the pool is scaled down only to the highest number that was wanted within it; 0
    scales down at once."""


class Autoscaling(Model):
    """Sets replicas according to the messages in the pool's queues."""

    model_config = rules(MIN_UP_TO_MAX)

    min_replicas: Annotated[int, bound(ge=0, le=10_000)] = 0
    """Minimum number of workers. With 0 the pool has no workers while no message waits and none is in flight."""
    max_replicas: Annotated[int, bound(ge=1, le=10_000)]
    """Maximum number of workers."""
    target: Target
    """The target that determines the number of workers."""
    management_url: Annotated[str, bound(IS_MANAGEMENT_URL, max_length=2048)] | None = None
    """RabbitMQ only: URL of its management API, for example http://rabbit:15672. Default: the broker's host, port
    15672, or 15671 with TLS."""
    scale_down: ScaleDown = ScaleDown()
    """How the pool is scaled down."""
