"""How does this library hook into Celery's consumer?

An application can name its consumer class in a Celery setting (`worker_consumer`). This library puts a thin subclass of
that class in its place. The subclass records signs of life, connects with the pool's retries instead of Celery's, hands
held messages back when the worker shuts down, and reports messages that no task can take. Tasks see no difference.

When the hooks run depends on Celery's loop. With an event loop (Redis, AMQP and SQS on prefork, threads and solo) a
timer ticks once a second. Without one (gevent, eventlet) `perform_pending_operations` is called in each turn.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.app import trace
from celery.exceptions import WorkerShutdown
from celery.worker import state as worker_state
from celery.worker.consumer import consumer as consumer_module
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
"""A connection that lasted longer than this was useful: it has asked for messages, and was not refused."""


if TYPE_CHECKING:
    _Consumer = Any  # a Celery consumer class: celery.worker.consumer.Consumer or what the application names
else:
    _Consumer = object


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerParts:
    """The parts of this library that a consumer uses."""

    vitals: Vitals
    retry: Retry
    reporter: Reporter
    prefetch_window: Callable[..., int | None]
    """Returns how many unacknowledged messages the consumer may hold; `None` keeps Celery's figure. Takes the consumer,
    and the number of its slots if this has changed."""
    on_giving_up: Callable[[GivingUpError], object]
    """Called with the reason before the worker ends because it cannot use the broker."""
    begin_drain: Callable[[], object]
    """Starts the drain, if it has not started yet."""
    hand_back: Callable[[Any], object]
    """Hands back the messages that are held and have not started. Called after consuming has stopped."""


class Deferred:
    """An action that runs once: in the loop's next turn, or at shutdown when the loop has ended.

    It is in `waiting` until then. `lock` prevents two actions from running at once, because each task of a threads pool
    ends in its own thread.
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
    """This library's hooks, as a base class that comes before a Celery consumer class."""

    parts: ConsumerParts
    _leaving = False
    _refused: broker.RefusedConnections | None = None
    _has_waited = False
    _ready_since: float | None = None
    _counts_running = False
    """Whether the transport counts tasks of an earlier connection that still run against the window (Redis)."""

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
        """Adapt the window to a pool changed by `pool_grow` or `pool_shrink`. Celery would use its multiplier again."""
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
        qos: Any = getattr(self.task_consumer.channel, "qos", None)  # a channel of AMQP has none
        self._counts_running = hasattr(qos, "free_slots")
        if self._counts_running and self.app.conf.get(
            "worker_disable_prefetch"
        ):  # Celery before 5.6 has no such setting
            qos.free_slots = self._free_slots
        self.parts.vitals.loop_entered()

    def _free_slots(self) -> int:
        """Number of slots without a task, counted as Celery's `worker_disable_prefetch` does."""
        slots = getattr(self.controller, "max_concurrency", None) or self.pool.num_processes
        return max(0, int(slots) - len(worker_state.reserved_requests))

    @property
    def max_prefetch_count(self) -> int:
        """The window that Celery restores after a lost connection. Celery's own value is slots times multiplier."""
        most: int = super().max_prefetch_count if self._window is None else self._window
        return most

    def _keep_window(self) -> None:
        """Give the next connection the same window as the first.

        Celery reduces the window by the multiplier for each task that still runs, but not below the multiplier. The
        multiplier may be larger than the window. Then this worker would hold messages that idle workers could run.
        """
        if self._counts_running:
            self.initial_prefetch_count = self.max_prefetch_count
        else:
            self.initial_prefetch_count = min(self.initial_prefetch_count, self.max_prefetch_count)
        self._maximum_prefetch_restored = self.initial_prefetch_count == self.max_prefetch_count

    def update_strategies(self) -> None:
        # Celery imports the consumer's module after it has created the pool, and this library before. A pool that puts
        # its own function in place of `build_tracer` (celery-aio-pool) would replace it too late for that module.
        vars(consumer_module)["build_tracer"] = trace.build_tracer
        super().update_strategies()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        handle, take = super().create_task_handler(*args, **kwargs), self.parts.vitals.take

        def handle_message(message: Any) -> Any:
            # Count every message: Celery's own signal leaves out those with an ETA.
            take()
            return handle(message)

        return handle_message

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        # Celery removes this timer when the connection is lost, and calls this method again for the next connection.
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
            self.parts.vitals.attempt_failed(broker.said(attempt.error))
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
            # A consumer makes several connections when it starts. Only the first one waits.
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
        """Obey signals, and acknowledge tasks that have ended in the meantime. They are settled as soon as Redis
        answers, which may be long before the next attempt to connect."""
        maybe_shutdown()
        for deferred in list(self._deferred):
            self._try("acknowledge", deferred)

    def _note_refusal(self, error: BaseException) -> None:
        """Count consecutive connections that were not useful, so that the pauses between them grow."""
        if not broker.refuses_requests(error):
            self._refused = None
            return
        ready_since, self._ready_since = self._ready_since, None
        was_of_use = ready_since is not None and time.monotonic() - ready_since > USEFUL_SECONDS
        before = self._refused.count if self._refused is not None and not was_of_use else 0
        self._refused, self._has_waited = broker.RefusedConnections(before + 1, error), False

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
            # Celery clears it too, but only after it has closed the connection. Closing hands back the messages that
            # wait for a slot, and until it is done each task that ends would start one of them.
            semaphore.clear()
        with warnings.catch_warnings():
            # At each lost connection Celery warns that a default will change in its next major version.
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
        """Break the reference cycle between a request and its timer entry, which exists since Celery 5.6.

        Otherwise only a full garbage collection can free the request, its message and the objects that they refer to
        (40 objects). A full collection stops every thread: for 0.1 s at 300 messages a second.
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
        """Report a message that Celery has discarded. A dead letter is reported as a dead letter."""
        reporter.report_message(self.parts.reporter, message, error, kind)

    # --- leaving

    def stop(self) -> None:
        """Called first when Celery shuts down, in the main thread."""
        self._leaving = True
        self.parts.begin_drain()  # there may be no signal: a remote shutdown, or giving up on the broker
        # These actions were scheduled for the loop's next turn, but the loop has ended.
        self._endings.pause()
        for deferred in list(self._deferred):
            self._try("acknowledge", deferred)
        if self.task_consumer is not None and self.connection is not None:
            # Stop consuming first: a message that is handed back must not be delivered to this worker again.
            self._try("stop consuming", self.task_consumer.cancel)
            self._try("hand messages back", lambda: self.parts.hand_back(self))
        super().stop()

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        return self._soon(super().call_soon, ppartial(p, *args, **kwargs))

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        return self._soon(super().call_soon_ack, ppartial(p, *args, **kwargs))

    def _soon(self, schedule: Callable[[Any], Any], action: Callable[[], Any]) -> Any:
        """Acknowledge in the loop's next turn; or now, if the loop has ended and the pool finishes its tasks."""
        if self._runs_inline and worker_state.active_requests:
            # An early acknowledgement of a task that will run in this thread: the loop has no turn until it has ended.
            action()
            self._settle_now()
            return action
        deferred = Deferred(action, self._deferred, self._acknowledging)
        scheduled = None if self._leaving else schedule(deferred)
        # Check again after adding it: the main thread may have gone through the waiting actions in between.
        if self._leaving:
            self._try("acknowledge", deferred)
        return scheduled or deferred

    def _settle_now(self) -> None:
        settle = getattr(getattr(self.task_consumer, "channel", None), "settle_now", None)  # Celeriac's transport only
        if settle is not None:
            self._try("settle", settle)

    def _try(self, what: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception:  # the other steps of the shutdown must still run
            logger.warning("could not %s", what, exc_info=True)


def consumer_class(base: Any, parts: ConsumerParts) -> Any:
    """A subclass of a Celery consumer class with this library's hooks."""
    return type("Consumer", (ConsumerHooks, base), {"parts": parts, "__module__": __name__})
