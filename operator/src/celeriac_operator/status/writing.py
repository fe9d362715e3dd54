"""(pure) Does a status say something new, and how soon must it be written?"""

from __future__ import annotations

from collections.abc import Mapping

from celeriac_operator.reasons import Type
from celeriac_operator.resource import Status, Work

QUEUE_COUNTS_SECONDS = 30.0
"""Pause between two writes of a status in which only the queue counts have changed."""

QUEUE_COUNTS_WRITES_A_SECOND = 10
"""Limit for all pools together: with more than 300 pools, each one's queue counts are written less often."""


_CHANGING: Mapping[tuple[str, str], Mapping[str, str]] = {
    (Type.SCALING_ACTIVE, "True"): {"message": ""},
    (Type.SCALING_ACTIVE, "False"): {"message": ""},
    (Type.WORKING, "True"): {"message": "", "reason": ""},
    (Type.WORKING, "False"): {"message": ""},
}
"""Parts of conditions, by type and status, that change with the figures."""


def is_same(one: Status, other: Status) -> bool:
    """Whether a write would change nothing. The order of conditions carries no meaning."""
    return _unordered(one) == _unordered(other)


def is_only_queue_counts(old: Status, new: Status) -> bool:
    """Whether only figures have changed: queue counts, those about the work, and the messages that contain them."""
    return is_same(_without_queue_counts(old), _without_queue_counts(new))


def queue_counts_seconds(pools: int) -> float:
    """Pause between two such writes, with this number of pools."""
    return max(QUEUE_COUNTS_SECONDS, pools / QUEUE_COUNTS_WRITES_A_SECOND)


def is_minor(old: Status, new: Status) -> bool:
    """Whether only numbers and messages have changed. Such a change may wait, so that a burst causes one write."""
    return _reasons(old) == _reasons(new) and old.observed_generation == new.observed_generation


def _reasons(status: Status) -> set[tuple[str, str, str]]:
    # BrokerReachable=True comes with the first ready worker, and can wait for the others; Working=True says only
    # whether tasks run.
    told = (
        condition
        for condition in status.conditions
        if condition.type not in (Type.BROKER_REACHABLE, Type.WORKING) or condition.status == "False"
    )
    return {(condition.type, condition.status, condition.reason) for condition in told}


def _without_queue_counts(status: Status) -> Status:
    conditions = tuple(
        condition.model_copy(update=_CHANGING.get((condition.type, condition.status), {}))
        for condition in status.conditions
    )
    problems = (
        tuple(problem.model_copy(update={"message": ""}) for problem in status.work.problems) if status.work else ()
    )
    work = Work(slots=0, busy_slots=0, succeeded=0, failed=0, dead_letters=0, problems=problems)
    counts = {"queues": None, "backlog": None, "oldest_message_time": None, "work": work}
    return status.model_copy(update={"conditions": conditions, **counts})


def _unordered(status: Status) -> Status:
    return status.model_copy(
        update={"conditions": tuple(sorted(status.conditions, key=lambda condition: condition.type))}
    )
