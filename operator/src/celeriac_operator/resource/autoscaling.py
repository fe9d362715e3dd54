"""How the number of workers follows the work."""

from __future__ import annotations

from typing import Annotated

from celeriac_operator.resource.base import Model, Rule, bound, rules

IS_MANAGEMENT_URL = Rule(
    cel=r"self.matches('^https?://[^\\s@]+$')",
    message="must be where RabbitMQ's management API is, for example http://rabbit:15672, without user and password: "
    "these are the broker URL's",
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
    """How much work there is for each worker. Exactly one of the fields."""

    model_config = rules(ONE_TARGET)

    backlog_per_replica: Annotated[int, bound(ge=1, le=1_000_000)] | None = None
    """So many messages, ready or in flight, for each worker."""
    latency_seconds: Annotated[int, bound(ge=1, le=DAY_SECONDS)] | None = None
    """So many seconds at most before a message starts. Workers measure how long tasks take, on Redis; until they have,
    and on RabbitMQ, a task is taken to last as long as this."""
    busy_slots_percent: Annotated[int, bound(ge=1, le=100)] | None = None
    """So much of all slots is to be in use, in percent, each waiting message counted as one that will use a slot."""


class ScaleDown(Model):
    """How workers become fewer."""

    stabilization_seconds: Annotated[int, bound(ge=0, le=DAY_SECONDS)] = 60
    """The number goes down only to the most that was wanted within so many seconds; 0 follows at once."""


class Autoscaling(Model):
    """Sets replicas by what waits in the pool's queues."""

    model_config = rules(MIN_UP_TO_MAX)

    min_replicas: Annotated[int, bound(ge=0, le=10_000)] = 0
    """The fewest workers. With 0 the pool rests while nothing waits and nothing is in flight."""
    max_replicas: Annotated[int, bound(ge=1, le=10_000)]
    """The most workers."""
    target: Target
    """How much work there is for each worker."""
    management_url: Annotated[str, bound(IS_MANAGEMENT_URL, max_length=2048)] | None = None
    """RabbitMQ only: where its management API is, for example http://rabbit:15672. Without it, at the broker's host, on
    port 15672, or 15671 with TLS."""
    scale_down: ScaleDown = ScaleDown()
    """How workers become fewer."""
