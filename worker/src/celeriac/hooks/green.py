"""Where does a message wait while all slots of a gevent or eventlet pool are busy?

Celery hands each message to the pool at once. If the pool is full, `spawn` blocks its caller, which is the loop that
takes messages. Until a task ends, that loop does not obey SIGTERM, settles no messages, and fails the liveness probe.
Tasks that end in the meantime are not acknowledged, and run again when their leases end (celery #4968, #10263).

With this module, messages wait in front of the pool, in the semaphore that Celery uses for prefork pools. Celery clears
this semaphore when the connection is lost, and this library clears it when a drain hands messages back.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class Slots:
    """Celery's semaphore for the slots of a green pool: a callback waits until the pool has a free one.

    The pool itself counts its free slots, so the number stays correct when the pool grows and when the semaphore is
    cleared while tasks run.

    Args:
        pool: Celery's pool. It need not have been started.
        spawn: calls a function in a green thread of its own, outside the pool.
    """

    def __init__(self, pool: Any, spawn: Callable[[Callable[[], object]], object]) -> None:
        self.pool = pool
        self.spawn = spawn
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_filling = False

    def acquire(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call `callback` now if a slot is free and nothing else waits; otherwise when its turn comes."""
        self._waiting.append(functools.partial(callback, *args, **kwargs))
        self.release()

    def release(self) -> None:
        """Give the free slots to the callbacks that wait."""
        if self._is_filling:
            return  # a callback that does not need its slot releases it at once
        self._is_filling = True
        try:
            while self._waiting and free_slots(self.pool) > 0:
                self._begin(self._waiting.popleft())
        finally:
            self._is_filling = False

    def clear(self) -> None:
        """Forget the callbacks that wait."""
        self._waiting.clear()

    def note_end(self, *_: Any) -> None:
        """Note that a task has ended. Called in a place where blocking is not allowed."""
        if self._waiting:
            self.spawn(self.release)

    def _begin(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:  # one message must not keep the others waiting
            logger.exception("a task could not begin")


def install(consumer: Any) -> bool:
    """Let the messages of a Celery consumer wait in front of its pool, if the pool is green. True if it is."""
    pool, controller = consumer.pool, consumer.controller
    if not getattr(pool, "is_green", False):
        return False
    slots = Slots(pool, pool.spawn_n)
    if hasattr(pool, "_add_to_pool_map"):
        _after(pool, "_add_to_pool_map", lambda _pid, thread: thread.link(slots.note_end))
    else:  # gevent before Celery 5.5, which hands the greenlet of a task to the caller instead
        put = pool.on_apply
        pool.on_apply = lambda *args, **kwargs: _linked(put(*args, **kwargs), slots)
    _after(pool, "grow", lambda *_, **__: slots.release())
    controller.semaphore = slots
    controller._quick_acquire, controller._quick_release = slots.acquire, slots.release
    consumer.on_task_request = functools.partial(slots.acquire, controller._process_task)
    return True


def free_slots(pool: Any) -> int:
    """How many tasks a green pool can start without blocking; 0 if the pool does not run."""
    green = pool._pool
    if green is None:
        return 0
    free: int = green.free_count() if hasattr(green, "free_count") else green.free()  # in gevent; in eventlet
    return free


def _linked(thread: Any, slots: Slots) -> Any:
    thread.link(slots.note_end)
    return thread


def _after(pool: Any, name: str, then: Callable[..., object]) -> None:
    method = getattr(pool, name)

    @functools.wraps(method)
    def both(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        then(*args, **kwargs)
        return result

    setattr(pool, name, both)
