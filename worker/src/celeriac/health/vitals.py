"""What is this worker doing right now?

The worker's hooks record what happens (a tick, a connection, a message taken, the start of the drain). A probe reads
this together with Celery's lists of requests. The main thread and the pool's threads write, and the health server's
thread reads. Each write is a plain assignment of one value, so no lock is needed and a probe can never block the
worker. Nothing here uses the broker.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from celery.worker import state
from celery.worker.request import Request

from celeriac.health.memory import MemoryKills
from celeriac.health.recent import End, Recent, RecentWork
from celeriac.health.rules import Observed, Running

T = TypeVar("T")

ENDED: Final = frozenset({"Z", "X"})
STOPPED: Final = frozenset({"T"})
"""States of a process, as named in proc(5). A process that a debugger has stopped (`t`) counts as running."""


class Vitals:
    """Signs of life of one worker process. Times are monotonic seconds.

    Args:
        stalled_seconds: limit for every kind of standstill.
        drain_timeout_seconds: how long a drain may take.
        clock: the monotonic clock; tests pass their own.
    """

    def __init__(
        self, *, stalled_seconds: float, drain_timeout_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self.started = clock()
        self.stalled_seconds = stalled_seconds
        self.drain_timeout_seconds = drain_timeout_seconds
        self.worker: Any = None
        """Celery's WorkController, after it has been created."""
        self.consuming = False
        self.ticked: float | None = None
        self.taken: float | None = None
        self.broker_lost: float | None = None
        self.broker_attempts = 0
        self.broker_losses = 0
        self.broker_reconnects = 0
        self.draining: float | None = None
        self.ignoring_since: float | None = None
        self.broker_error = ""
        self.recent = Recent()
        """What has ended in the last 15 minutes."""
        self._memory = MemoryKills()
        self._processes_seen: float | None = None

    def tick(self) -> None:
        """The consumer loop has made a turn."""
        self.ticked = self.clock()

    def take(self, _request: Any = None) -> None:
        """A message has been taken."""
        self.taken = self.clock()
        self.ignoring_since = None

    def broker_failed(self) -> None:
        """The broker did not answer, or its connection broke."""
        if self.consuming:
            self.broker_losses += 1
        self.consuming = False
        self.broker_attempts += 1
        self.ignoring_since = None
        if self.broker_lost is None:
            self.broker_lost = self.clock()

    def attempt_failed(self, error: str = "") -> None:
        """An attempt to connect to the broker has failed; `error` is its cause, without secrets.

        If messages are still being consumed, it was another connection that failed: with gevent and eventlet, remote
        control has its own. The consumer notices the loss of its own connection. It does not reconnect for another one,
        so `consuming` would stay false.
        """
        if not self.consuming:
            self.broker_failed()
            self.broker_error = error

    def broker_connected(self) -> None:
        """The worker has connected to the broker."""
        self.broker_error = ""
        if self.broker_lost is not None and self.broker_losses:
            self.broker_reconnects += 1
        self.broker_lost = None
        self.broker_attempts = 0

    def loop_entered(self) -> None:
        """The consumer loop has started to take messages."""
        self.tick()
        self.consuming = True

    def dead_lettered(self, *_: Any) -> None:
        """This worker has put a message into the dead-letter queue."""
        self.recent.count(End.DEAD_LETTER, now=self.clock())

    def drain_begun(self) -> None:
        """The worker has been told to shut down."""
        if self.draining is None:
            self.draining = self.clock()

    def observe(self) -> Observed:
        """The state of the worker at this moment."""
        now = self.clock()
        pool = getattr(self.worker, "pool", None)
        processes = count_processes(pool)
        if processes:
            self._processes_seen = now
        return Observed(
            uptime_seconds=now - self.started,
            slots=getattr(pool, "num_processes", None) or getattr(self.worker, "concurrency", None) if pool else None,
            runs_inline=is_inline(pool),
            consuming=self.consuming,
            ticked_seconds=_age(now, self.ticked),
            broker_away_seconds=_age(now, self.broker_lost),
            broker_attempts=self.broker_attempts,
            broker_losses=self.broker_losses,
            broker_reconnects=self.broker_reconnects,
            draining_seconds=_age(now, self.draining),
            drain_timeout_seconds=self.drain_timeout_seconds,
            **_requests(self.worker),
            processes=processes,
            processes_gone_seconds=_age(now, self._processes_seen) if processes == 0 else None,
            ignored_messages_seconds=_age(now, self.ignoring_since),
            stalled_seconds=self.stalled_seconds,
            broker_error=self.broker_error,
        )

    def recent_work(self) -> RecentWork:
        """What has ended in the last 15 minutes."""
        kills = self._memory.new()
        if kills:
            self.recent.count(End.OUT_OF_MEMORY, now=self.clock(), times=kills)
        return self.recent.at(self.clock())


def is_inline(pool: Any) -> bool:
    """Whether this pool runs tasks in the thread that takes messages."""
    return type(pool).__module__ == "celery.concurrency.solo"


def pool_processes(pool: Any) -> list[int] | None:
    """PIDs of a prefork pool's children; `None` for other pools."""
    processes = getattr(getattr(pool, "_pool", None), "_pool", None)
    if not isinstance(processes, list):
        return None
    return [process.pid for process in snapshot(processes) if getattr(process, "pid", None)]


def count_processes(pool: Any) -> int | None:
    """How many of the pool's processes are alive and not stopped (SIGSTOP).

    This reads /proc. billiard's own check calls `waitpid`, which would take the exit status away from the pool.
    """
    pids = pool_processes(pool)
    return None if pids is None else sum(1 for pid in pids if process_state(pid) not in ENDED | STOPPED)


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended. A zombie has ended."""
    return process_state(pid) not in ENDED


def process_state(pid: int) -> str:
    """The state of a process as a letter from /proc; X (dead) if the process does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X"
    return stat.rpartition(")")[2].split()[0]


def hard_limit_seconds(request: Any, default: float | None) -> float | None:
    """The hard limit of a request: that of the message, or else of the task, or else of the worker."""
    own = (request.time_limits or (None, None))[0]
    return own or getattr(request.task, "time_limit", None) or default


def snapshot(values: Iterable[T]) -> list[T]:
    """A copy of a collection that another thread may be changing."""
    while True:
        with contextlib.suppress(RuntimeError):  # it changed while it was read; read it again
            return list(values)


def _requests(worker: Any) -> dict[str, Any]:
    if worker is None:
        return {}
    active = snapshot(state.active_requests)
    default = getattr(worker, "time_limit", None)
    running = tuple(
        Running(
            name=request.name,
            id=request.id,
            seconds=running_seconds(request, now=time.monotonic(), wall=time.time()),
            hard_limit_seconds=hard_limit_seconds(request, default),
        )
        for request in active
        if request.time_start is not None
    )
    reserved = len(set(snapshot(state.reserved_requests)) - set(active))
    waiting = scheduled(getattr(worker, "consumer", None))
    return {"running": running, "prefetched": reserved, "scheduled": len(waiting)}


def running_seconds(request: Any, *, now: float, wall: float) -> float:
    """How long a task has run, at monotonic time `now` and Unix time `wall`.

    The pool reports the start of a task on the monotonic clock, which is used if it is known. With Unix time, which is
    all that Celery keeps, a step of the node's clock could make every task seem to exceed its hard limit.
    """
    accepted = getattr(request, "accepted_at", None)
    seconds: float = wall - request.time_start if accepted is None else now - accepted
    return max(0.0, seconds)


def scheduled(consumer: Any) -> dict[Any, Any]:
    """Each request that waits for its time (ETA, countdown), with the entry of the consumer's timer that starts it.

    Since 5.6 Celery keeps a set of them. Before that, only the timer has them; `inspect scheduled` also reads it.
    """
    kept = getattr(state, "scheduled_requests", None)
    if kept is not None:
        return {request: request._eta_timer_entry for request in snapshot(kept)}
    timer = getattr(consumer, "timer", None)
    found = {}
    for waiting in snapshot(timer.schedule.queue) if timer else ():
        first = next(iter(waiting.entry.args), None)
        if isinstance(first, Request) and not waiting.entry.canceled:
            # To cancel it, the timer of a green pool takes the greenlet; other timers take the entry.
            found[first] = waiting if hasattr(waiting, "cancel") else waiting.entry
    return found


def _age(now: float, since: float | None) -> float | None:
    return None if since is None else now - since
