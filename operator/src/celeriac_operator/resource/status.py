"""What the operator reports about a pool."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict
from pydantic.types import JsonValue

from celeriac_operator.resource.base import ATOMIC, Model, bound, map_by

# Born not ready: kstatus reads an object without a Ready condition as ready. No write is needed for a default.
BORN_CONDITION: dict[str, JsonValue] = {
    "type": "Ready",
    "status": "Unknown",
    "reason": "Pending",
    "message": "waiting for the operator",
    "lastTransitionTime": "1970-01-01T00:00:00Z",
}

MAX_DECISIONS = 10


class Condition(Model):
    """One answer to one question about the pool."""

    type: Annotated[str, bound(max_length=316)]
    """What the condition speaks about, for example Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, bound(min_length=1, max_length=1024)]
    """The cause in one word, for programs; the words are listed in the reference of conditions."""
    message: Annotated[str, bound(max_length=32768)]
    """The cause in a sentence, for people."""
    observed_generation: Annotated[int, bound(ge=0)] | None = None
    """Generation of the pool that this condition was computed from."""
    last_transition_time: datetime
    """When the status last changed."""


class QueueBacklog(Model):
    """What waits in one queue."""

    name: Annotated[str, bound(max_length=255)]
    """The queue, as the pool names it."""
    backlog: Annotated[int, bound(ge=0)]
    """Messages that wait in it, all priorities together."""


class ScalingDecision(Model):
    """One change of the number of workers, and what it was decided by."""

    time: datetime
    """When replicas was written."""
    from_replicas: Annotated[int, bound(ge=0)]
    """The number before."""
    to_replicas: Annotated[int, bound(ge=0)]
    """The number after."""
    reason: Annotated[str, bound(max_length=1024)]
    """Why, in words, for example backlog 480 / 20 per replica."""
    backlog: Annotated[int, bound(ge=0)]
    """Messages that waited, in all queues of the pool."""
    in_flight: Annotated[int, bound(ge=0)]
    """Messages that workers had and had not finished."""
    busy_slots: Annotated[int, bound(ge=0)]
    """Slots that ran a task."""
    oldest_seconds: Annotated[int, bound(ge=0)] | None = None
    """How long the oldest message had waited; absent where it does not say when it was sent."""
    service_milliseconds: Annotated[int, bound(ge=0)] | None = None
    """Mean runtime of recent tasks; absent before one was measured."""


class Scaling(Model):
    """What the autoscaler did."""

    desired_replicas: Annotated[int, bound(ge=0)]
    """The number that it asked for last."""
    reason: Annotated[str, bound(max_length=1024)]
    """Why, in words."""
    decisions: Annotated[tuple[ScalingDecision, ...], bound(max_length=MAX_DECISIONS, schema=ATOMIC)] = ()
    """Its last changes, newest first."""


class Status(Model):
    """What is. Written by the operator only."""

    model_config = ConfigDict(json_schema_extra={"default": {"conditions": [BORN_CONDITION]}})

    observed_generation: Annotated[int, bound(ge=0)] | None = None
    """Generation of the pool that the operator last acted upon."""
    replicas: Annotated[int, bound(ge=0)] | None = None
    """Workers that exist."""
    ready_replicas: Annotated[int, bound(ge=0)] | None = None
    """Workers that are ready: connected to the broker and consuming."""
    desired_replicas: Annotated[int, bound(ge=0)] | None = None
    """Workers that the operator asks for: replicas, or 0 while the pool is suspended."""
    ready: Annotated[str, bound(max_length=32)] | None = None
    """Ready and desired workers in one word, for kubectl get, for example 3/3."""
    selector: Annotated[str, bound(max_length=1024)] | None = None
    """Label selector of the worker pods, as the scale subresource wants it."""
    library: Annotated[str, bound(max_length=1024)] | None = None
    """The image that the workers' library was taken from; absent with inject Never."""
    backlog: Annotated[int, bound(ge=0)] | None = None
    """Messages that wait in all queues of a pool with autoscaling, at most half a minute old; slower with many
    pools."""
    queues: Annotated[tuple[QueueBacklog, ...], bound(max_length=64, schema=ATOMIC)] | None = None
    """The same for each queue."""
    last_scale_time: datetime | None = None
    """When autoscaling last changed replicas."""
    scaling: Scaling | None = None
    """What autoscaling did, and why. Written when it changes replicas."""
    conditions: Annotated[tuple[Condition, ...], bound(max_length=16, schema=map_by("type"))] = ()
    """The state of the pool, one entry for each question: Ready, Reconciling, Stalled, BrokerReachable,
    TimeLimitsEnforced, SentryConfigured, NotificationsConfigured, ScalingActive."""
