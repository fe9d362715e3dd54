"""Defines what a worker counts.

Each count has one definition here, and one call where the event happens: `counts.LEASES_LOST.add()`. The module is
light enough for code that producers import. Outside a worker there is no receiver, and a call costs almost nothing. In
a worker the parent process is the receiver and also gets the counts of its children, so that there is one total for the
whole pod. Counting never raises and never waits.

A new metric is one definition here (the name with its unit, without `_total`, which the format adds), one call, one row
in docs/reference/worker-metrics.md and one case in tests/integration/worker/observability/test_metrics.py. Tests fail
if one of the last two is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

Receiver = Callable[["Count | Timing", float, tuple[str, ...]], None]

LONG: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
"""Upper bounds, in seconds, of the buckets of whatever may take milliseconds or an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Something that is counted; it only grows."""

    name: str
    unit: str
    labels: tuple[str, ...] = ()
    meaning: str

    def add(self, *values: str, amount: float = 1.0) -> None:
        """Count it, with a value for each of its labels."""
        if _receive is not None:
            _receive(self, amount, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Something that takes time, shown as a histogram."""

    name: str
    unit: str = "seconds"
    labels: tuple[str, ...] = ()
    meaning: str
    bounds: tuple[float, ...] = LONG

    def observe(self, seconds: float, *values: str) -> None:
        """Note how long it took once, with a value for each of its labels."""
        if _receive is not None:
            _receive(self, seconds, values)


_receive: Receiver | None = None


def receive_by(receiver: Receiver | None) -> None:
    """Send all counts of this process to `receiver` from now on; `None`: do not send them."""
    global _receive  # noqa: PLW0603 - code that counts must not need to be handed a receiver
    _receive = receiver


# --- tasks, as the parent process sees them

TASKS = Count(
    name="celeriac_worker_tasks",
    unit="tasks",
    labels=("name", "state"),
    meaning="Tasks that reached a state, by name (past the first hundred: other) and state.",
)
RUNTIME = Timing(
    name="celeriac_worker_task_runtime_seconds", labels=("name",), meaning="How long runs of a task took, by its name."
)
QUEUE_WAIT = Timing(
    name="celeriac_worker_task_wait_seconds",
    labels=("queue",),
    meaning="From publishing (or the ETA, where that is later) to the start of the run, by queue.",
)

# --- delivery

LEASES_RENEWED = Count(
    name="celeriac_worker_leases_renewed", unit="leases", meaning="Renewals of the leases of held messages."
)
LEASES_LOST = Count(
    name="celeriac_worker_leases_lost",
    unit="leases",
    meaning="Leases that ended while this worker still held their messages, which are delivered elsewhere.",
)
REDELIVERIES = Count(
    name="celeriac_worker_redeliveries",
    unit="messages",
    meaning="Messages taken that had been delivered before, to this worker or another.",
)
DEAD_LETTERS = Count(
    name="celeriac_worker_dead_letters",
    unit="messages",
    labels=("queue",),
    meaning="Messages that this worker put into the dead-letter queue, by the queue they came from.",
)

CUT_SHORT = Count(
    name="celeriac_worker_cut_short_tasks",
    unit="tasks",
    labels=("outcome",),
    meaning="Tasks that still ran when a drain's time was up, by outcome: handed_back, left (to its lease) or lost.",
)

# --- policies and locks, wherever in the pod they are used

POLICY_OUTCOMES = Count(
    name="celeriac_worker_policy_outcomes",
    unit="calls",
    labels=("policy", "outcome"),
    meaning="What policies did with calls made and runs begun in this pod, by policy and outcome.",
)
LOCK_WAIT = Timing(
    name="celeriac_worker_lock_wait_seconds",
    labels=("outcome",),
    meaning="How long attempts to acquire a lock took, by outcome: acquired or not_acquired.",
)
LOCKS_LOST = Count(
    name="celeriac_worker_locks_lost", unit="locks", meaning="Renewed locks that were lost while they were held."
)


def definitions() -> Iterable[Count | Timing]:
    """All of them, in the order of this file."""
    return [value for value in globals().values() if isinstance(value, (Count, Timing))]
