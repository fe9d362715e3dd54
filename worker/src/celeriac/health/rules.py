"""(pure) Is this worker alive, and is it ready?

The rules are applied at each probe to an observation of the worker. Liveness fails only for problems that a restart
solves. It never fails because the broker is unreachable, a task is long, all slots are busy, the start is slow or the
worker is draining. Readiness says whether the worker is consuming. Each rule returns a sentence if it is broken, and
`None` if it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HARD_LIMIT_MARGIN_SECONDS: Final = 10
"""Seconds after a task's hard limit until the worker counts as dead. Celery gets this time to enforce the limit."""
STUCK_SECONDS: Final = 3600
"""Seconds after which a task without a hard limit counts as stuck."""
DRAIN_MARGIN_SECONDS: Final = 30
"""Seconds that a drain may take after its timeout, to hand back messages, flush reports and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A task that is running."""

    name: str
    id: str
    seconds: float
    """Time since the pool accepted it."""
    hard_limit_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state of a worker at one moment. `..._seconds` are ages; `None` means that the state does not apply."""

    uptime_seconds: float
    slots: int | None = None
    """`None` while the worker is starting."""
    runs_inline: bool = False
    """Tasks run in the thread of the consumer loop (solo), which therefore stops while a task runs."""
    consuming: bool = False
    """Connected to the broker, and the consumer loop is running."""
    ticked_seconds: float | None = None
    """Time since the last turn of the consumer loop."""
    broker_away_seconds: float | None = None
    broker_attempts: int = 0
    """Consecutive failed attempts to connect."""
    broker_losses: int = 0
    """Connections that broke since the start."""
    broker_reconnects: int = 0
    """Connections that were made after one had broken."""
    draining_seconds: float | None = None
    drain_timeout_seconds: float = 0
    running: tuple[Running, ...] = ()
    prefetched: int = 0
    """Messages that wait for a slot."""
    scheduled: int = 0
    """Messages that wait for their time (ETA, countdown)."""
    processes: int | None = None
    """Processes of the pool that are alive and not stopped; `None` if the pool has no processes of its own."""
    processes_gone_seconds: float | None = None
    """Time since the last of these processes was seen."""
    ignored_messages_seconds: float | None = None
    """Time for which the broker has had messages and slots were free, but the worker has taken no message."""
    stalled_seconds: float = 60
    """Limit for every kind of standstill."""

    broker_error: str = ""
    """Why the last attempt to connect failed, without secrets; empty while the broker is connected."""


Rule = Callable[[Observed], str | None]


def consumer_loop_turns(seen: Observed) -> str | None:
    """The loop that takes messages keeps turning."""
    is_at_work = seen.runs_inline and seen.running
    if not seen.consuming or seen.ticked_seconds is None or is_at_work or seen.draining_seconds is not None:
        return None
    if seen.ticked_seconds <= seen.stalled_seconds:
        return None
    return f"the consumer loop has not turned for {seen.ticked_seconds:.0f} s (limit {seen.stalled_seconds:.0f} s)"


def tasks_keep_their_hard_limit(seen: Observed) -> str | None:
    """No task runs longer than its hard limit. On threads and solo only a restart can end such a task."""
    for task in seen.running:
        limit = task.hard_limit_seconds
        if limit is not None and task.seconds > limit + HARD_LIMIT_MARGIN_SECONDS:
            return f"task {task.name}[{task.id}] has run for {task.seconds:.0f} s, its hard limit is {limit:.0f} s"
    return None


def pool_has_processes(seen: Observed) -> str | None:
    """The pool has processes that are not stopped (SIGSTOP), or had some within `stalled_seconds`."""
    gone = seen.processes_gone_seconds
    if gone is None or gone <= seen.stalled_seconds or seen.draining_seconds is not None:
        return None
    return f"the pool has had no process for {gone:.0f} s"


def messages_are_taken(seen: Observed) -> str | None:
    """The worker takes waiting messages while slots are free. After some reconnects it does not (celery #8030)."""
    ignored = seen.ignored_messages_seconds
    if ignored is None or ignored <= seen.stalled_seconds or not seen.consuming or seen.draining_seconds is not None:
        return None
    return f"messages wait and slots are free, but nothing was taken for {ignored:.0f} s"


def drain_ends(seen: Observed) -> str | None:
    """A drain ends within `DRAIN_MARGIN_SECONDS` after its timeout."""
    draining = seen.draining_seconds
    if draining is None or draining <= seen.drain_timeout_seconds + DRAIN_MARGIN_SECONDS:
        return None
    return f"draining for {draining:.0f} s, the time-out is {seen.drain_timeout_seconds:.0f} s"


def has_started(seen: Observed) -> str | None:
    """The worker has started."""
    return "starting" if seen.slots is None else None


def broker_is_there(seen: Observed) -> str | None:
    """The broker is connected."""
    if seen.broker_away_seconds is None:
        return None
    return f"the broker has been away for {seen.broker_away_seconds:.0f} s, {seen.broker_attempts} attempts so far"


def is_consuming(seen: Observed) -> str | None:
    """The consumer loop is running."""
    return None if seen.consuming else "not consuming yet"


def is_staying(seen: Observed) -> str | None:
    """The worker is not shutting down."""
    if seen.draining_seconds is None:
        return None
    return f"draining: {len(seen.running)} tasks run"


def is_stuck(task: Running) -> bool:
    """Whether a task has run for too long: past its hard limit, or for more than an hour without one."""
    limit = task.hard_limit_seconds
    return task.seconds > (STUCK_SECONDS if limit is None else limit + HARD_LIMIT_MARGIN_SECONDS)


LIVENESS: Final[tuple[Rule, ...]] = (
    consumer_loop_turns,
    tasks_keep_their_hard_limit,
    pool_has_processes,
    messages_are_taken,
    drain_ends,
)
READINESS: Final[tuple[Rule, ...]] = (is_staying, has_started, broker_is_there, is_consuming)


def broken(rules: tuple[Rule, ...], seen: Observed) -> list[str]:
    """The sentences of all broken rules; empty if all rules hold."""
    return [said for rule in rules if (said := rule(seen)) is not None]
