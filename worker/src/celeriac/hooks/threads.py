"""What is left to do in the threads of a threads pool? As little as can be.

A thread that has ended one task is to begin the next, and while it does anything in Python, all others wait.

**Reading arguments.** Celery's loop has read them when a task comes to its thread, which would read them again. It gets
what the loop has read.

**Booking an end.** Celery takes the task out of its books, acknowledges, counts and sends events in the thread. Here
the thread only notes that the task has ended, and the loop books it in its next turn, as it does for the processes of a
prefork pool.

**Limit.** While no loop turns (the broker is away, or the worker leaves) an end is booked in its thread, Celery's way.
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
    """Spare the threads of a threads pool what the loop can do; other pools stay as they are. Is it one?"""
    from celery.concurrency.thread import TaskPool

    if not isinstance(pool, TaskPool):
        return False
    its: Any = pool
    apply_async = its.apply_async

    def sparing(trace: Any, args: Any, *, callback: Any = None, **options: Any) -> Any:
        request = getattr(callback, "__self__", None)
        if not isinstance(request, RequestHooks):
            # A function of somebody else's, with arguments of its own: celery-batches runs many requests by one.
            return apply_async(trace, args=args, callback=callback, **options)

        def ended(outcome: Any) -> None:
            request.note_run_ended()
            endings.book(partial(callback, outcome))

        return apply_async(trace, args=with_arguments_read(args, request), callback=ended, **options)

    its.apply_async = sparing
    return True


def with_arguments_read(args: Any, request: Any) -> Any:
    """What Celery gives its tracer: name, id, request, body, and how that is to be read. The body as it was read."""
    name, task_id, context, body, content_type, encoding = args
    if content_type is None:  # a message of Celery's first protocol, which is read already
        return name, task_id, context, body, content_type, encoding
    return name, task_id, context, request.message.payload, None, None


class Endings:
    """The ends that are to be booked in the loop's next turn."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._waker: Waker | None = None
        self._turns = False

    def follow(self, hub: Any) -> None:
        """Book in this event loop from now on; called in its thread, for each connection."""
        self._waker = self._waker or Waker()
        hub.add_reader(self._waker.fd, self._turn)
        self._turns = True

    def pause(self) -> None:
        """No loop turns from now on, until the next `follow`; what waits is booked now."""
        self._turns = False
        self._book_waiting()

    def book(self, booking: Callable[[], object]) -> None:
        """Book an end; called in the thread of the task."""
        if not self._turns or self._waker is None:
            booking()
            return
        self._waiting.append(booking)
        self._waker.wake()
        # Again, after it was added: it may have come too late for `pause`.
        if not self._turns:
            self._book_waiting()

    def _turn(self) -> None:
        if self._waker is not None:
            self._waker.woken()
        self._book_waiting()

    def _book_waiting(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                booking = self._waiting.popleft()  # by one thread alone
                try:
                    booking()
                except (Exception, SystemExit, KeyboardInterrupt):  # the task's, which must not end the loop
                    logger.exception("the end of a task could not be booked")
