"""How does this library take part in Celery's consumer?

Celery lets an application name its consumer class (`worker_consumer`); ours is a thin subclass of whatever class that
is. It writes down signs of life, connects with our patience instead of Celery's, hands held messages back when the
worker leaves, and reports messages that no task can take. Nothing of what a task sees changes.

Times at which the hooks run, by Celery's two loops: with an event loop (Redis, AMQP and SQS on prefork, threads and
solo) a timer ticks once a second; without (gevent, eventlet) `perform_pending_operations` is called in each turn.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.exceptions import WorkerShutdown
from celery.worker import state as worker_state
from celery.worker.state import maybe_shutdown
from vine import ppartial

from celeriac.backoff import Retry
from celeriac.exits import GivingUpError
from celeriac.failures import reporter
from celeriac.failures.reporter import Reporter
from celeriac.health.vitals import Vitals, is_inline
from celeriac.hooks import broker, green, prefork, results, threads
from celeriac.hooks.event_loop import timers
from celeriac.hooks.threads import Endings

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
USEFUL_SECONDS = 10.0
"""A connection that has lasted for this long was of use: it has asked for messages, and was not refused."""


if TYPE_CHECKING:
    _Consumer = Any  # a Celery consumer class: celery.worker.consumer.Consumer or what the application names
else:
    _Consumer = object


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerParts:
    """What a consumer needs from the rest of this library."""

    vitals: Vitals
    retry: Retry
    reporter: Reporter
    prefetch_window: Callable[..., int | None]
    """The consumer, and its slots where they have changed -> how many unacknowledged messages it may hold; `None`
    leaves Celery's own figure."""
    on_giving_up: Callable[[GivingUpError], object]
    """Told the sentence before the worker ends for want of a broker."""
    begin_drain: Callable[[], object]
    """Starts the drain's clock, if it does not run yet."""
    hand_back: Callable[[Any], object]
    """Gives back what is held and does not run yet; called once consuming has stopped."""


class Deferred:
    """An action that is done once, in the loop's next turn or when there is none any more.

    It is one of `waiting` until then. `lock` keeps actions apart: tasks of a threads pool end in threads of their own.
    """

    def __init__(self, action: Callable[[], Any], waiting: set[Deferred], lock: threading.Lock) -> None:
        self._action = action
        self._waiting = waiting
        self._lock = lock
        waiting.add(self)

    def __call__(self) -> None:
        with self._lock:
            if self in self._waiting:
                self._waiting.discard(self)
                self._action()


class ConsumerHooks(_Consumer):  # type: ignore[misc]  # a class of Celery's, chosen at run time
    """This library's hooks, to be put before a Celery consumer class."""

    parts: ConsumerParts
    _leaving = False
    _refused: broker.Refusals | None = None
    _has_waited = False
    _ready_since: float | None = None
    _counts_running = False
    """The transport itself counts what runs on from an earlier connection against the window (Redis)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._acknowledging = threading.Lock()
        self._deferred: set[Deferred] = set()
        self._endings = Endings()
        self._runs_inline = is_inline(self.pool)
        results.guard(self.pool)
        green.install(self)
        self._books_ends = threads.spare(self.pool, self._endings)
        self._window = self.parts.prefetch_window(self)
        if self._window is not None:
            self.initial_prefetch_count = self._window

    def _update_prefetch_count(self, index: int = 0) -> Any:
        """Follow a pool that `pool_grow` or `pool_shrink` has changed; Celery would go back to its multiplier."""
        window = self.parts.prefetch_window(self, self.pool.num_processes)
        if window is None or not self.initial_prefetch_count:
            return super()._update_prefetch_count(index)
        change, self.initial_prefetch_count = window - self.initial_prefetch_count, window
        if change > 0:
            self.qos.increment_eventually(change)
        elif change < 0:
            self.qos.decrement_eventually(-change)
        return window

    # --- signs of life

    def on_ready(self) -> None:
        super().on_ready()
        self._ready_since = time.monotonic()
        qos = self.task_consumer.channel.qos
        self._counts_running = hasattr(qos, "free_slots")
        if self._counts_running and self.app.conf.get(
            "worker_disable_prefetch"
        ):  # Celery before 5.6 has no such setting
            qos.free_slots = self._free_slots
        self.parts.vitals.loop_entered()

    def _free_slots(self) -> int:
        """Slots without a task, as Celery's `worker_disable_prefetch` counts them."""
        slots = getattr(self.controller, "max_concurrency", None) or self.pool.num_processes
        return max(0, int(slots) - len(worker_state.reserved_requests))

    @property
    def max_prefetch_count(self) -> int:
        """The window that Celery comes back to after a lost connection; its own is slots times the multiplier."""
        most: int = super().max_prefetch_count if self._window is None else self._window
        return most

    def _keep_window(self) -> None:
        """Let the next connection have the window of the first.

        Celery reduces it by the multiplier for each task that runs on, but to no less than the multiplier, which may
        be more than the window: idle workers would wait beside one that hoards.
        """
        if self._counts_running:
            self.initial_prefetch_count = self.max_prefetch_count
        else:
            self.initial_prefetch_count = min(self.initial_prefetch_count, self.max_prefetch_count)
        self._maximum_prefetch_restored = self.initial_prefetch_count == self.max_prefetch_count

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        handle, take = super().create_task_handler(*args, **kwargs), self.parts.vitals.take

        def handle_message(message: Any) -> Any:
            # Every message: Celery's own signal leaves out those that wait for their time, whatever a backlog they are.
            take()
            return handle(message)

        return handle_message

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        # Celery takes this timer away with the connection and registers it again with the next one.
        hub.timer.call_repeatedly(TICK_SECONDS, self.parts.vitals.tick)
        if self._books_ends:
            self._endings.follow(hub)
        timers.stay_awake(hub)

    def perform_pending_operations(self) -> None:
        self.parts.vitals.tick()
        super().perform_pending_operations()

    # --- the broker

    def ensure_connected(self, conn: Any) -> Any:
        def failed(attempt: broker.FailedAttempt) -> None:
            self.parts.vitals.attempt_failed()
            limit = "" if self.parts.retry.max_retries is None else f"/{self.parts.retry.max_retries}"
            logger.warning(
                "broker: %s %s: %s; next attempt in %.1f s (%d%s)",
                "requests are refused by" if broker.refuses_requests(attempt.error) else "cannot connect to",
                broker.shown(conn),
                broker.said(attempt.error),
                attempt.delay_seconds,
                attempt.retries + 1,
                limit,
            )

        try:
            # A consumer makes several connections when it starts; the first one waits.
            refused, self._has_waited = (None if self._has_waited else self._refused), True
            connected = broker.connect(
                conn, self.parts.retry, on_failure=failed, while_waiting=self._while_disconnected, refused=refused
            )
        except GivingUpError as giving_up:
            self.parts.on_giving_up(giving_up)
            raise WorkerShutdown(int(giving_up.code)) from None
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        self.parts.vitals.broker_connected()
        return connected

    def _while_disconnected(self) -> None:
        """Obey signals, and note what has ended meanwhile: it is settled as soon as Redis answers, which may be long
        before the next attempt to connect is due."""
        maybe_shutdown()
        for deferred in list(self._deferred):
            self._try("acknowledge", deferred)

    def _note_refusal(self, error: BaseException) -> None:
        """Count connections in a row that were of no use, so that pauses between them grow as between attempts."""
        if not broker.refuses_requests(error):
            self._refused = None
            return
        ready_since, self._ready_since = self._ready_since, None
        was_of_use = ready_since is not None and time.monotonic() - ready_since > USEFUL_SECONDS
        before = self._refused.count if self._refused is not None and not was_of_use else 0
        self._refused, self._has_waited = broker.Refusals(before + 1, error), False

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        self._note_refusal(exc)
        self.parts.vitals.broker_failed()
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        self._endings.pause()
        self._note_refusal(exc)
        self.parts.vitals.broker_failed()
        semaphore = getattr(self.controller, "semaphore", None)
        if semaphore is not None:
            # Celery does this too, once it has closed the connection, which gives back what waits for a slot: until
            # then each task that ends would let one of them begin.
            semaphore.clear()
        with warnings.catch_warnings():
            # Celery announces at each lost connection that a default will change in its next major version.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        self._keep_window()

    def on_close(self) -> None:
        with prefork.remembering(self.pool):
            super().on_close()

    # --- messages that wait for their time

    def apply_eta_task(self, task: Any) -> None:
        self._forget_timer(task)
        super().apply_eta_task(task)

    def _limit_post_eta(self, request: Any, bucket: Any, tokens: int) -> Any:
        self._forget_timer(request)
        return super()._limit_post_eta(request, bucket, tokens)

    def _forget_timer(self, request: Any) -> None:
        """A request and the timer's entry that begins it point at each other since Celery 5.6.

        Once that has happened, the request, its message and all that hangs on them (forty objects) could only be
        found by a full garbage collection, which halts every thread: for a tenth of a second at three hundred messages
        a second.
        """
        request._eta_timer_entry = None

    # --- messages that are not calls of a task

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        if not super().on_decode_error(message, exc):
            self._report(message, exc, "decode-error")

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        if not super().on_invalid_task(body, message, exc):
            self._report(message, exc, "invalid-message")

    def _report(self, message: Any, error: BaseException, kind: str) -> None:
        """Report a message that Celery has thrown away; a dead letter is reported as such."""
        reporter.report_message(self.parts.reporter, message, error, kind)

    # --- leaving

    def stop(self) -> None:
        """The first thing that Celery does when it shuts down, in the main thread."""
        self._leaving = True
        self.parts.begin_drain()  # without a signal too: a remote shutdown, a broker that was given up
        # What the loop was to do in its next turn, which does not come.
        self._endings.pause()
        for deferred in list(self._deferred):
            self._try("acknowledge", deferred)
        if self.task_consumer is not None and self.connection is not None:
            # Not consuming any more comes first: what is handed back must not come here again.
            self._try("stop consuming", self.task_consumer.cancel)
            self._try("hand messages back", lambda: self.parts.hand_back(self))
        super().stop()

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        return self._soon(super().call_soon, ppartial(p, *args, **kwargs))

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        return self._soon(super().call_soon_ack, ppartial(p, *args, **kwargs))

    def _soon(self, schedule: Callable[[Any], Any], action: Callable[[], Any]) -> Any:
        """Acknowledge in the loop's next turn; now, while the pool finishes its tasks and no loop turns."""
        if self._runs_inline and worker_state.active_requests:
            # Early, of a task that is about to run in this thread: until it has ended there is no other turn.
            action()
            self._settle_now()
            return action
        deferred = Deferred(action, self._deferred, self._acknowledging)
        scheduled = None if self._leaving else schedule(deferred)
        # Again, after it was added: it may have come too late for those that the main thread looked through.
        if self._leaving:
            self._try("acknowledge", deferred)
        return scheduled or deferred

    def _settle_now(self) -> None:
        settle = getattr(getattr(self.task_consumer, "channel", None), "settle_now", None)  # Celeriac's transport alone
        if settle is not None:
            self._try("settle", settle)

    def _try(self, what: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception:  # the way out must be walked to its end
            logger.warning("could not %s", what, exc_info=True)


def consumer_class(base: Any, parts: ConsumerParts) -> Any:
    """A subclass of a Celery consumer class with this library's hooks."""
    return type("Consumer", (ConsumerHooks, base), {"parts": parts, "__module__": __name__})
