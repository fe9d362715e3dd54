"""Which work does the event loop take over from the threads of a threads pool?

A thread that has finished a task should start the next one at once: while it runs Python code, all other threads wait.
This module moves the bookkeeping for each task from the pool's threads to the event loop.

**Decoding arguments.** Celery's loop decodes the arguments of a task, and the thread would decode them again. With this
module, the thread gets the arguments that the loop has decoded.

**Booking an end.** In the thread, Celery removes the task from its active set, acknowledges it, counts it and sends
events. With this module, the thread only notes that the task has ended. The loop books the end in its next turn, as it
does for the processes of a prefork pool.

**Limit.** While no loop runs (the broker is unreachable, or the worker shuts down), an end is booked in its thread, as
in Celery.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from celeriac.hooks.event_loop.waking import Waker
from celeriac.hooks.requests import RequestHooks

logger = logging.getLogger(__name__)


def spare(pool: Any, endings: Endings) -> bool:
    """Move bookkeeping from the threads of a threads pool to the loop. False if `pool` is of another kind."""
    from celery.concurrency.thread import TaskPool

    if not isinstance(pool, TaskPool):
        return False
    its: Any = pool
    apply_async = its.apply_async

    def sparing(trace: Any, args: Any, *, callback: Any = None, **options: Any) -> Any:
        request = getattr(callback, "__self__", None)
        if not isinstance(request, RequestHooks):
            # Another library's function, with other arguments: celery-batches runs many requests in one call.
            return apply_async(trace, args=args, callback=callback, **options)

        def ended(outcome: Any) -> None:
            request.note_run_ended()
            endings.book(partial(callback, outcome))

        return apply_async(trace, args=with_arguments_read(args, request), callback=ended, **options)

    its.apply_async = sparing
    return True


def with_arguments_read(args: Any, request: Any) -> Any:
    """The arguments of Celery's tracer (name, id, request, body, content type, encoding), with the decoded body."""
    name, task_id, context, body, content_type, encoding = args
    if content_type is None:  # a message of Celery's protocol 1, which is decoded already
        return name, task_id, context, body, content_type, encoding
    return name, task_id, context, request.message.payload, None, None


class Endings:
    """The ends of tasks that the loop books in its next turn."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._waker: Waker | None = None
        self._turns = False

    def follow(self, hub: Any) -> None:
        """Book ends in this event loop from now on. Called in the loop's thread, for each connection."""
        self._waker = self._waker or Waker()
        hub.add_reader(self._waker.fd, self._turn)
        self._turns = True

    def pause(self) -> None:
        """Note that no loop runs until the next `follow`, and book the waiting ends now."""
        self._turns = False
        self._book_waiting()

    def book(self, booking: Callable[[], object]) -> None:
        """Book an end. Called in the thread of the task."""
        if not self._turns or self._waker is None:
            booking()
            return
        self._waiting.append(booking)
        self._waker.wake()
        # Check again after adding it: `pause` may have booked the waiting ends in between.
        if not self._turns:
            self._book_waiting()

    def _turn(self) -> None:
        if self._waker is not None:
            self._waker.woken()
        self._book_waiting()

    def _book_waiting(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                booking = self._waiting.popleft()  # only one thread gets each item
                try:
                    booking()
                except (Exception, SystemExit, KeyboardInterrupt):  # an exception of the task must not end the loop
                    logger.exception("the end of a task could not be recorded")
