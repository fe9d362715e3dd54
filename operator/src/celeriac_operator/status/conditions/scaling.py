"""(pure) Is the autoscaler setting the number of workers, and what has it changed?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac_operator import labels
from celeriac_operator.decide.observed import Observed
from celeriac_operator.labels import Pause
from celeriac_operator.reasons import Activity, Type
from celeriac_operator.resource import QueueBacklog, Scaling, ScalingDecision
from celeriac_operator.resource.status import MAX_DECISIONS
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import ConditionStatus, Statement

ON_REQUEST = (Activity.PAUSED, Activity.DISABLED)
"""Reasons that a person has requested."""


def active(case: Case) -> Statement | None:
    """The condition ScalingActive; None: the pool has no autoscaling, or the autoscaler has not evaluated it yet."""
    pool, seen = case.seen.pool, case.seen.scaling
    if pool.spec.autoscaling is None:
        return None
    if pool.spec.suspend:
        return Statement(Type.SCALING_ACTIVE, "False", Activity.DISABLED, "the pool is suspended")
    pause = labels.pause(pool)
    if pause is Pause.BOTH:
        return Statement(Type.SCALING_ACTIVE, "False", Activity.PAUSED, _paused(case))
    if seen is None:
        return _as_before(case)
    status: ConditionStatus = "True" if seen.activity is Activity.ACTIVE else "False"
    held = f"; {labels.PAUSE_SCALING} is {pause}" if pause else ""
    return Statement(Type.SCALING_ACTIVE, status, seen.activity, seen.message + held)


def _paused(case: Case) -> str:
    pool = case.seen.pool
    value = pool.metadata.annotations[labels.PAUSE_SCALING]
    mistake = "" if value in set(Pause) else ", which is not in, out or both"
    return f"held at {pool.spec.replicas}: {labels.PAUSE_SCALING} is {value[:32]}{mistake}"


def _as_before(case: Case) -> Statement | None:
    """Keep the previous condition: shortly after a start of the operator nothing is known yet."""
    before = next(
        (condition for condition in case.seen.pool.status.conditions if condition.type == Type.SCALING_ACTIVE), None
    )
    if before is None or before.reason not in set(Activity) or Activity(before.reason) in ON_REQUEST:  # type: ignore[call-arg]  # an enum's value is enough
        return None
    return Statement(Type.SCALING_ACTIVE, before.status, Activity(before.reason), before.message)  # type: ignore[call-arg]  # ditto


def status_fields(seen: Observed) -> Mapping[str, Any]:
    """Status fields about queues and scaling decisions."""
    before, now = seen.pool.status, seen.scaling
    is_scaled = seen.pool.spec.autoscaling is not None
    if not is_scaled and (now is not None and not now.is_read):
        return {}
    queues, oldest = before.queues, before.oldest_message_time
    if now is not None and now.backlog is not None:
        queues = tuple(QueueBacklog(name=name, backlog=count) for name, count in now.backlog.items())
        oldest = now.oldest_since
    fields: dict[str, Any] = {
        "queues": queues,
        "backlog": None if queues is None else sum(queue.backlog for queue in queues),
        "oldest_message_time": oldest,
    }
    if not is_scaled:
        return fields
    decisions = _merged(now.decisions if now else (), before.scaling.decisions if before.scaling else ())
    return {
        **fields,
        "last_scale_time": decisions[0].time if decisions else None,
        "scaling": Scaling(desired_replicas=decisions[0].to_replicas, reason=decisions[0].reason, decisions=decisions)
        if decisions
        else None,
    }


def _merged(new: tuple[ScalingDecision, ...], old: tuple[ScalingDecision, ...]) -> tuple[ScalingDecision, ...]:
    """Merge both, newest first. The stored status has the decisions from before a start; both may have the same
    ones."""
    known = {(decision.time, decision.from_replicas, decision.to_replicas) for decision in new}
    rest = (decision for decision in old if (decision.time, decision.from_replicas, decision.to_replicas) not in known)
    return (*new, *rest)[:MAX_DECISIONS]
