"""(pure) Which changes of a pool are worth an event?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from celeriac_operator.decide.last_words import LastWords
from celeriac_operator.event import Event
from celeriac_operator.reasons import BrokerReason, EventReason, Progress, Type
from celeriac_operator.resource import ScalingDecision, Status
from celeriac_operator.status.conditions import scaling
from celeriac_operator.status.conditions.statement import ConditionStatus

ALARMING: Mapping[Type, ConditionStatus] = {
    Type.STALLED: "True",
    Type.BROKER_REACHABLE: "False",
    Type.SENTRY_CONFIGURED: "False",
    Type.NOTIFICATIONS_CONFIGURED: "False",
    Type.TIME_LIMITS_ENFORCED: "False",
    Type.SCALING_ACTIVE: "False",
}
"""Conditions that cause an event when they get this status."""

SAID_ELSEWHERE: Final = (*scaling.ON_REQUEST, BrokerReason.SECRET_NOT_FOUND)
"""Reasons that cause none: a person has requested it, or Stalled says the same."""

FRESH_SECONDS: Final = 60.0
"""Older last words have been reported before, by this operator or by its predecessor."""


def between(old: Status, new: Status) -> Iterator[Event]:
    """Events for the change from one status to the next. The stored status is the only memory, so a restart of the
    operator repeats no event."""
    before, after = ({condition.type: condition for condition in status.conditions} for status in (old, new))
    for kind, failed in ALARMING.items():
        was, now = before.get(kind), after.get(kind)
        if (
            now is not None
            and now.status == failed
            and not (now.reason in SAID_ELSEWHERE and kind is not Type.STALLED)
            and (was is None or (was.status, was.reason) != (failed, now.reason))
            and not (kind is Type.STALLED and old.stalled and old.stalled.reason == now.reason)
        ):
            yield Event(kind="Warning", reason=now.reason, message=now.message)
    # Stopped on purpose is ready too, and no recovery.
    if old.stalled and after[Type.READY].status == "True" and after[Type.READY].reason == Progress.READY:
        message = f"{after[Type.READY].message}; the pool was stalled ({old.stalled.reason})"
        yield Event(kind="Normal", reason=EventReason.RECOVERED, message=message)
    elif new.rolled_out != old.rolled_out and Type.READY in before and before[Type.READY].status != "True":
        yield Event(kind="Normal", reason=EventReason.ROLLED_OUT, message=after[Type.READY].message)
    broker, was_away = after.get(Type.BROKER_REACHABLE), before.get(Type.BROKER_REACHABLE)
    if broker and broker.status == "True" and was_away and was_away.status == "False":
        yield Event(kind="Normal", reason=EventReason.BROKER_BACK, message=broker.message)
    yield from _problems(old, new)
    yield from _turns(old, new)


def _problems(old: Status, new: Status) -> Iterator[Event]:
    """Events for problems with the work that have appeared."""
    known = {problem.reason for problem in old.work.problems} if old.work else set()
    for problem in new.work.problems if new.work else ():
        if problem.reason not in known:
            yield Event(kind="Warning", reason=problem.reason, message=problem.message)


def _turns(old: Status, new: Status) -> Iterator[Event]:
    """Events for scaling decisions that are not in the old status and change the direction."""
    decisions = new.scaling.decisions if new.scaling else ()
    known = set(old.scaling.decisions) if old.scaling else set()
    for decision, before in reversed(list(zip(decisions, (*decisions[1:], None)[: len(decisions)], strict=True))):
        if decision in known or (before is not None and _is_up(before) == _is_up(decision)):
            continue
        reason = EventReason.SCALING_UP if _is_up(decision) else EventReason.SCALING_DOWN
        message = f"from {decision.from_replicas} to {decision.to_replicas} workers: {decision.reason}"
        yield Event(kind="Normal", reason=reason, message=message)


def _is_up(decision: ScalingDecision) -> bool:
    return decision.to_replicas > decision.from_replicas


def cut_short(said: Iterable[LastWords], now: datetime) -> Iterator[Event]:
    """Events about tasks that a worker did not finish."""
    for words in said:
        if (now - words.said_at).total_seconds() <= FRESH_SECONDS:
            yield Event(kind="Warning", reason=EventReason.CUT_SHORT, message=f"pod {words.pod}: {words.text}")
