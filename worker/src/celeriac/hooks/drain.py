"""How does a worker shut down?

SIGTERM (or SIGINT) starts a drain. Celery's own warm shutdown does most of the work. This module adds the rest:

    SIGTERM            /readyz fails at once, and the timeout starts
    consumer stops     the worker takes no new messages; it hands back to the broker those that it holds and has not
                       started (prefetched, or waiting for their time or rate limit)
    tasks finish       and each is acknowledged when it does
    timeout            tasks that still run are cut short and handed back: a prefork child is ended, a thread or an
                       inline task ends with the process; the container's last words name these tasks, for the operator
    end                Sentry is flushed; the exit code is 0, or that of the reason if the worker gave up

A second SIGTERM changes nothing. If the broker is unreachable during the drain, a message cannot be handed back. This
is logged, and the broker redelivers the message when the connection is closed (AMQP), or when the lease or visibility
timeout ends (Redis). A task that was acknowledged before it ran (at most once) cannot be handed back; the log names it
as lost.

A thread keeps the timeout, because the main thread may be running a task (solo) or waiting for the pool.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery.worker import state

from celeriac import counts
from celeriac.exits import Exit, GivingUpError
from celeriac.health import vitals as vital_signs
from celeriac.health.vitals import Vitals

logger = logging.getLogger(__name__)

CHILD_SECONDS: Final = 5.0
"""Seconds between SIGTERM and SIGKILL for a child that is ended."""
MOST_NAMED: Final = 10
"""Maximum number of tasks named in the last words, of which Kubernetes keeps 4 KB. The log names all tasks."""


class Drain:
    """Keeps the timeout of a drain. `begin` may be called from a signal handler, and more than once.

    Args:
        vitals: records when the drain began.
        timeout_seconds: time that running tasks get to finish.
        report: writes the last words: a sentence about the tasks that were cut short, and the reason for giving up.
        flush: sends reports that are still waiting.
        end: ends the process at once.
    """

    def __init__(
        self,
        vitals: Vitals,
        timeout_seconds: float,
        *,
        report: Callable[..., object],
        flush: Callable[[], None],
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self.vitals = vitals
        self.timeout_seconds = timeout_seconds
        self.report = report
        self.flush = flush
        self.end = end
        self.given_up: GivingUpError | None = None
        """Why the worker gave up, if it did. This sets its exit code and its last sentence."""
        self.is_interrupted = False
        """Whether SIGINT started the shutdown. Celery then exits with a failure code even if all went well
        (celery #7339)."""
        self._begun = threading.Event()

    def start(self) -> None:
        """Wait for a drain to begin. The thread is started now, because a signal handler must not start one."""
        signals.worker_shutting_down.connect(self.begin, weak=False, dispatch_uid="celeriac-drain")
        threading.Thread(target=self._keep_time, name="celeriac-drain", daemon=True).start()

    def begin(self, sig: str = "", how: str = "", **_: Any) -> None:
        """Begin the drain. Celery passes the name of the signal, and the kind of shutdown ("Warm" or "Cold")."""
        if sig:  # empty when the worker itself begins the drain
            self.is_interrupted = sig == "SIGINT" and how == "Warm"
        if self.vitals.draining is not None:  # a second signal must not wait for the event's lock
            return
        self.vitals.drain_begun()
        self._begun.set()

    def exit_code(self, code: int) -> int:
        """The exit code of the worker, given Celery's `code`."""
        return int(Exit.OK) if self.is_interrupted and self.given_up is None and code == Exit.FAILURE else code

    def _keep_time(self) -> None:
        self._begun.wait()
        began = self.vitals.draining
        while (left := (began or 0.0) + self.timeout_seconds - self.vitals.clock()) > 0:
            time.sleep(left)
        try:
            cut = cut_short(self.vitals.worker, self.timeout_seconds)
            if cut:
                # The reason for giving up comes last: the operator shows the last line in the pool's condition.
                self.report(last_words(cut, self.timeout_seconds), *([str(self.given_up)] if self.given_up else []))
            self.flush()
        except Exception:
            logger.exception("drain: could not shut down cleanly")
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            self.end(int(self.given_up.code if self.given_up else Exit.OK))


def hand_back_held(consumer: Any) -> int:
    """Hand back the messages that are held and have not started, and return their number.

    Called in the main thread after consuming has stopped.
    """
    semaphore = getattr(consumer.controller, "semaphore", None)
    if semaphore is not None:
        semaphore.clear()  # holds requests that wait for a slot of the pool
    waiting = _waiting(consumer)
    held = [request for request in waiting if hand_back(request)]
    for request in held:
        state.task_ready(request)
    if held:
        logger.info("drain: handed %d held messages back to the broker", len(held))
    if len(held) < len(waiting):
        logger.warning(
            "drain: %d held messages could not be handed back; they are redelivered", len(waiting) - len(held)
        )
    return len(held)


def _waiting(consumer: Any) -> list[Any]:
    """The requests that have not started. None of them can start afterwards."""
    waiting = []
    for request, entry in vital_signs.scheduled(consumer).items():
        if entry is not None:
            consumer.timer.cancel(entry)
        waiting.append(request)
    for bucket in consumer.task_buckets.values():
        if bucket:
            waiting += [request for request, _ in bucket.contents]
            bucket.clear_pending()
    active = set(vital_signs.snapshot(state.active_requests))
    waiting += [
        request
        for request in vital_signs.snapshot(state.reserved_requests)
        if request not in active and request.keep_from_beginning()
    ]
    return list(dict.fromkeys(waiting))


def hand_back(request: Any) -> bool:
    """Hand one unacknowledged message back to the broker, for immediate redelivery. True if this succeeded."""
    if request.acknowledged or request.message.acknowledged:
        return False
    try:
        if request.time_start is None:
            request.put_back()
        else:
            request.message.requeue()
    except Exception:
        logger.debug("drain: could not hand %s back", request.humaninfo(), exc_info=True)
        return False
    request.acknowledged = True
    return True


def cut_short(worker: Any, after_seconds: float) -> list[str]:
    """End the tasks that still run and hand them back. Logs each task and its fate, and returns these as texts."""
    running = vital_signs.snapshot(state.active_requests)
    for request in running:
        request.given_back = True  # what happens to its process now does not count as a failure
    end_children(worker, running)
    cut = []
    for request in running:
        fate = _fate(request)
        if fate is None:
            continue
        cut.append(f"{request.humaninfo()} {fate.value.replace('_', ' ')}")
        counts.CUT_SHORT.add(fate.value)
        level = logging.ERROR if fate is Fate.LOST else logging.WARNING
        logger.log(level, f"drain: %s cut short after %.0f s{_SAID[fate]}", request.humaninfo(), after_seconds)
    return cut


def last_words(cut: list[str], after_seconds: float) -> str:
    """The sentence about tasks that were cut short. The operator recognizes it by its beginning."""
    tasks = "1 task" if len(cut) == 1 else f"{len(cut)} tasks"
    more = f", and {len(cut) - MOST_NAMED} more" if len(cut) > MOST_NAMED else ""
    return f"drain: {tasks} cut short after {after_seconds:.0f} s: {', '.join(cut[:MOST_NAMED])}{more}"


class Fate(enum.Enum):
    """What happened to the message of a task that was cut short. The values are those of the metric's label."""

    HANDED_BACK = "handed_back"
    LEFT = "left"
    """The broker was unreachable. It redelivers the message when its lease (or visibility timeout) ends."""
    LOST = "lost"
    """The message was acknowledged before the task ran."""


_SAID: Final = {
    Fate.HANDED_BACK: ", handed back",
    Fate.LEFT: ", left: the broker is away, and the message is redelivered later",
    Fate.LOST: " and lost: it was acknowledged before it ran",
}


def _fate(request: Any) -> Fate | None:
    """Hand one running request back; `None` if it has finished in the meantime."""
    if request.acknowledged or request.message.acknowledged:
        is_lost = not request.task.acks_late and request in state.active_requests
        return Fate.LOST if is_lost else None
    return Fate.HANDED_BACK if hand_back(request) else Fate.LEFT


def end_children(worker: Any, running: list[Any]) -> None:
    """End the prefork children that run these requests, so that no task runs here and on its next worker at once."""
    own = set(vital_signs.pool_processes(getattr(worker, "pool", None)) or ())
    pids = {request.worker_pid for request in running} & own
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + CHILD_SECONDS
        while pids and time.monotonic() < deadline:
            pids = {pid for pid in pids if vital_signs.is_running(pid)}
            if pids:
                time.sleep(0.05)
