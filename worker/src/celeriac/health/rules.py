"""(pure) Is this worker alive, and is it ready?

Called for each probe with everything that is known of the worker at that moment. Liveness fails only for what a
restart cures; it never fails because the broker is away, a task is long, all slots are busy, the start is slow or
the worker is draining. Readiness says whether the worker is consuming. Each rule returns a sentence when it is
broken and `None` when it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HARD_LIMIT_MARGIN_SECONDS: Final = 10
"""A task may be so long past its hard limit before the worker counts as dead: Celery's own limit comes first."""
DRAIN_MARGIN_SECONDS: Final = 30
"""A drain may take so much longer than its time-out: giving back, flushing, ending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One task that runs."""

    name: str
    id: str
    seconds: float
    """Since the pool took it."""
    hard_limit_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known of a worker at one moment. `..._seconds` are ages; `None` means that it is not so."""

    uptime_seconds: float
    slots: int | None = None
    """`None` while the worker is starting."""
    runs_inline: bool = False
    """Tasks run in the consumer loop itself (solo), which therefore stands still while one runs."""
    consuming: bool = False
    """Connected to the broker, with the consumer loop entered."""
    ticked_seconds: float | None = None
    """Since the consumer loop came round for the last time."""
    broker_away_seconds: float | None = None
    broker_attempts: int = 0
    """Attempts in a row that failed."""
    broker_losses: int = 0
    """Connections that broke since the start."""
    broker_reconnects: int = 0
    """Connections that were made after one had broken."""
    draining_seconds: float | None = None
    drain_timeout_seconds: float = 0
    running: tuple[Running, ...] = ()
    prefetched: int = 0
    """Messages held for a slot."""
    scheduled: int = 0
    """Messages held for their time (ETA, countdown)."""
    processes: int | None = None
    """Processes of the pool that are alive and not stopped; `None` where the pool has none of its own."""
    processes_gone_seconds: float | None = None
    """Since the last one of them was there."""
    ignored_messages_seconds: float | None = None
    """The broker has had messages for us, slots were free and nothing was taken for so long."""
    stalled_seconds: float = 60
    """The limit for whatever has to move."""


Rule = Callable[[Observed], str | None]


def consumer_loop_turns(seen: Observed) -> str | None:
    """The loop that takes messages comes round."""
    is_at_work = seen.runs_inline and seen.running
    if not seen.consuming or seen.ticked_seconds is None or is_at_work or seen.draining_seconds is not None:
        return None
    if seen.ticked_seconds <= seen.stalled_seconds:
        return None
    return f"the consumer loop has not come round for {seen.ticked_seconds:.0f} s (limit {seen.stalled_seconds:.0f} s)"


def tasks_keep_their_hard_limit(seen: Observed) -> str | None:
    """No task runs past its hard limit: on threads and solo nobody but a restart can end it."""
    for task in seen.running:
        limit = task.hard_limit_seconds
        if limit is not None and task.seconds > limit + HARD_LIMIT_MARGIN_SECONDS:
            return f"task {task.name}[{task.id}] runs for {task.seconds:.0f} s, its hard limit is {limit:.0f} s"
    return None


def pool_has_processes(seen: Observed) -> str | None:
    """The pool's processes are there and not stopped (SIGSTOP), or were a moment ago."""
    gone = seen.processes_gone_seconds
    if gone is None or gone <= seen.stalled_seconds or seen.draining_seconds is not None:
        return None
    return f"the pool has had no process for {gone:.0f} s"


def messages_are_taken(seen: Observed) -> str | None:
    """What the broker has for us is taken while slots are free: not so after some reconnects (celery #8030)."""
    ignored = seen.ignored_messages_seconds
    if ignored is None or ignored <= seen.stalled_seconds or not seen.consuming or seen.draining_seconds is not None:
        return None
    return f"messages wait and slots are free, but nothing was taken for {ignored:.0f} s"


def drain_ends(seen: Observed) -> str | None:
    """A drain does not outlast its time-out by much."""
    draining = seen.draining_seconds
    if draining is None or draining <= seen.drain_timeout_seconds + DRAIN_MARGIN_SECONDS:
        return None
    return f"draining for {draining:.0f} s, the time-out is {seen.drain_timeout_seconds:.0f} s"


def has_started(seen: Observed) -> str | None:
    """The worker is up."""
    return "starting" if seen.slots is None else None


def broker_is_there(seen: Observed) -> str | None:
    """The broker is connected."""
    if seen.broker_away_seconds is None:
        return None
    return f"the broker is away for {seen.broker_away_seconds:.0f} s, {seen.broker_attempts} attempts so far"


def is_consuming(seen: Observed) -> str | None:
    """The consumer loop has been entered."""
    return None if seen.consuming else "not consuming yet"


def is_staying(seen: Observed) -> str | None:
    """The worker is not leaving."""
    if seen.draining_seconds is None:
        return None
    return f"draining: {len(seen.running)} tasks run"


LIVENESS: Final[tuple[Rule, ...]] = (
    consumer_loop_turns,
    tasks_keep_their_hard_limit,
    pool_has_processes,
    messages_are_taken,
    drain_ends,
)
READINESS: Final[tuple[Rule, ...]] = (is_staying, has_started, broker_is_there, is_consuming)


def broken(rules: tuple[Rule, ...], seen: Observed) -> list[str]:
    """The sentences of all rules that do not hold; empty when all is well."""
    return [said for rule in rules if (said := rule(seen)) is not None]
