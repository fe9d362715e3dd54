"""What does the operator report about a pool?"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict
from pydantic.types import JsonValue

from celeriac_operator.resource.base import ATOMIC, Model, bound, map_by

# A new pool is not ready: kstatus takes an object without a Ready condition as ready. A default needs no write.
BORN_CONDITION: dict[str, JsonValue] = {
    "type": "Ready",
    "status": "Unknown",
    "reason": "Pending",
    "message": "waiting for the operator",
    "lastTransitionTime": "1970-01-01T00:00:00Z",
}

MAX_DECISIONS = 10


class Condition(Model):
    """A condition of the pool."""

    type: Annotated[str, bound(max_length=316)]
    """Type of the condition, for example Ready."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    reason: Annotated[str, bound(min_length=1, max_length=1024)]
    """The cause, for programs; the reference page of conditions lists all reasons."""
    message: Annotated[str, bound(max_length=32768)]
    """The cause, for people."""
    observed_generation: Annotated[int, bound(ge=0)] | None = None
    """Generation of the pool that this condition was computed from."""
    last_transition_time: datetime
    """When the status last changed."""


class QueueBacklog(Model):
    """The backlog of one queue."""

    name: Annotated[str, bound(max_length=255)]
    """Name of the queue, as in the pool's spec."""
    backlog: Annotated[int, bound(ge=0)]
    """Waiting messages, all priorities together."""


class ScalingDecision(Model):
    """One change of the number of workers, with the figures that it was based on."""

    time: datetime
    """When replicas was written."""
    from_replicas: Annotated[int, bound(ge=0)]
    """The number before."""
    to_replicas: Annotated[int, bound(ge=0)]
    """The number after."""
    reason: Annotated[str, bound(max_length=1024)]
    """Why, for people, for example backlog 480 / 20 per replica."""
    backlog: Annotated[int, bound(ge=0)]
    """Waiting messages in all queues of the pool."""
    in_flight: Annotated[int, bound(ge=0)]
    """Messages that workers held and had not finished."""
    busy_slots: Annotated[int, bound(ge=0)]
    """Slots that were running a task."""
    oldest_seconds: Annotated[int, bound(ge=0)] | None = None
    """Seconds that the oldest message had waited; absent if its producer did not record when it was sent."""
    service_milliseconds: Annotated[int, bound(ge=0)] | None = None
    """Mean runtime of recent tasks; absent if none was measured yet."""


class Scaling(Model):
    """The autoscaler's changes."""

    desired_replicas: Annotated[int, bound(ge=0)]
    """The number of workers that it set last."""
    reason: Annotated[str, bound(max_length=1024)]
    """Why, for people."""
    decisions: Annotated[tuple[ScalingDecision, ...], bound(max_length=MAX_DECISIONS, schema=ATOMIC)] = ()
    """Its last changes, newest first."""


class RunningTask(Model):
    """A task that runs."""

    name: Annotated[str, bound(max_length=255)]
    """Name of the task."""
    id: Annotated[str, bound(max_length=255)]
    """ID of the task."""
    pod: Annotated[str, bound(max_length=253)]
    """The worker that runs it."""
    started_at: datetime
    """When it started, to a second or two."""
    limit_seconds: Annotated[int, bound(ge=0)] | None = None
    """Its hard time limit; absent if it has none."""


class Problem(Model):
    """Something that is wrong with the work of a pool."""

    reason: Annotated[str, bound(max_length=64)]
    """The cause, for programs: a reason of the condition Working."""
    message: Annotated[str, bound(max_length=1024)]
    """The cause, for people."""
    since: datetime
    """When the operator first saw it."""


class Work(Model):
    """What the workers are doing, and how their tasks of the last 15 minutes ended. The operator asks the workers every
    10 seconds; figures that change are written every 30 seconds."""

    slots: Annotated[int, bound(ge=0)]
    """Slots of all workers that replied."""
    busy_slots: Annotated[int, bound(ge=0)]
    """Slots that run a task."""
    oldest_task: RunningTask | None = None
    """The task that has been running for the longest time."""
    succeeded: Annotated[int, bound(ge=0)]
    """Tasks that succeeded in the last 15 minutes."""
    failed: Annotated[int, bound(ge=0)]
    """Tasks that failed in the last 15 minutes: with an exception, by their hard time limit, or with their process."""
    dead_letters: Annotated[int, bound(ge=0)]
    """Messages that were put into the dead-letter queue in the last 15 minutes."""
    problems: Annotated[tuple[Problem, ...], bound(max_length=8, schema=ATOMIC)] = ()
    """What is wrong, the most severe first. An event is recorded when a problem appears."""


class LastStalled(Model):
    """The last time that the pool was stalled."""

    reason: Annotated[str, bound(max_length=64)]
    """The reason of the condition Stalled."""
    since: datetime
    """When the pool became stalled."""


class Status(Model):
    """The observed state. Written by the operator only."""

    model_config = ConfigDict(json_schema_extra={"default": {"conditions": [BORN_CONDITION]}})

    observed_generation: Annotated[int, bound(ge=0)] | None = None
    """Generation of the pool that the operator last handled."""
    replicas: Annotated[int, bound(ge=0)] | None = None
    """Workers that exist."""
    ready_replicas: Annotated[int, bound(ge=0)] | None = None
    """Workers that are ready: connected to the broker and consuming."""
    desired_replicas: Annotated[int, bound(ge=0)] | None = None
    """Desired workers: spec.replicas, or 0 while the pool is suspended."""
    draining: Annotated[int, bound(ge=0)] | None = None
    """Workers that are being removed and finish their tasks first."""
    ready: Annotated[str, bound(max_length=32)] | None = None
    """Ready and desired workers, for kubectl get, for example 3/3."""
    selector: Annotated[str, bound(max_length=1024)] | None = None
    """Label selector of the worker pods, for the scale subresource."""
    library: Annotated[str, bound(max_length=1024)] | None = None
    """Image that the worker library is injected from; absent with inject Never."""
    library_version: Annotated[str, bound(max_length=64)] | None = None
    """Tag or digest of that image, for kubectl get."""
    backlog: Annotated[int, bound(ge=0)] | None = None
    """Waiting messages in all queues that the pool names, updated every 30 seconds; less often with many pools. Absent
    if the operator cannot read the broker, or the pool names no queues or no broker URL."""
    queues: Annotated[tuple[QueueBacklog, ...], bound(max_length=64, schema=ATOMIC)] | None = None
    """The backlog of each queue."""
    oldest_message_time: datetime | None = None
    """When the oldest waiting message was sent. Absent if none waits, or if the producer did not record it."""
    last_scale_time: datetime | None = None
    """When autoscaling last changed replicas."""
    scaling: Scaling | None = None
    """The autoscaler's changes of replicas, and the reasons. Written when it changes replicas."""
    image: Annotated[str, bound(max_length=1024)] | None = None
    """Image of the application that the Deployment has."""
    image_name: Annotated[str, bound(max_length=64)] | None = None
    """The same without its registry, for kubectl get."""
    previous_image: Annotated[str, bound(max_length=1024)] | None = None
    """Image that the Deployment had before: to go back, set it as spec.image."""
    rolled_out: Annotated[str, bound(max_length=64)] | None = None
    """Hash of the newest pod template with which all workers have been ready."""
    failing_since: datetime | None = None
    """Since when the pool has been failing to become ready. Absent if it is not failing."""
    stalled: LastStalled | None = None
    """Why and since when the pool has been stalled. Kept until the pool is ready again."""
    work: Work | None = None
    """What the workers are doing. Absent while no worker has replied."""
    conditions: Annotated[tuple[Condition, ...], bound(max_length=16, schema=map_by("type"))] = ()
    """Conditions of the pool: Ready, Reconciling, Stalled, BrokerReachable, Working,
    TimeLimitsEnforced, SentryConfigured, NotificationsConfigured, ScalingActive."""
