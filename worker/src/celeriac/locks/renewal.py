"""Keeps a lock while its owner works: one thread for each renewed lock extends it until the owner ends.

The thread has only a weak reference to the owner. If the lock's object was garbage-collected, or the owner's thread has
ended, the lock is not renewed any more and expires.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from celeriac import counts
from celeriac.locks import scripts

logger = logging.getLogger(__name__)

RENEWALS: Final = 3
"""Renewals within one timeout."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """The data of a held lock that its renewal needs."""

    client: Any
    name: Any
    """The lock's name as its user wrote it, for log lines."""
    key: bytes
    token: bytes
    timeout: float
    """Seconds until the lock expires, set by each renewal."""
    max_hold: float | None
    """Seconds after which renewing stops; `None`: never."""
    lost: threading.Event
    """Set when the lock is lost."""


class LockRenewal:
    """Extends one lock until it is stopped, the lock is lost or held for too long, or the owner is gone.

    The owner keeps a reference to this object; when the last reference is gone, the owner is gone too.
    """

    def __init__(self, held: Held) -> None:
        self._stopped = threading.Event()
        arguments = (weakref.ref(self), self._stopped, held)
        self._thread = threading.Thread(target=_renew, args=arguments, name=f"celeriac-lock-{held.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing. A renewal that is being sent may still arrive."""
        self._stopped.set()


def _renew(owner: weakref.ref[LockRenewal], stopped: threading.Event, held: Held) -> None:
    started = renewed = time.monotonic()
    while not stopped.wait(held.timeout / RENEWALS):
        now = time.monotonic()
        if owner() is None:
            logger.warning("lock %s is not renewed any more: its object or its thread is gone", held.name)
            return
        if held.max_hold is not None and now - started >= held.max_hold:
            _lose(held, f"it was held for {held.max_hold:g} s, the longest that max_hold allows")
            return
        try:
            is_ours = scripts.EXTEND.run(
                held.client, [held.key], [held.token, scripts.milliseconds(held.timeout), "set"]
            )
        except (RedisError, OSError) as error:
            if now - renewed < held.timeout or stopped.is_set():
                continue
            _lose(held, f"it could not be renewed for {held.timeout:g} s: {error}")
            return
        if stopped.is_set():
            return
        if not is_ours:
            _lose(held, "it expired, or another owner acquired it")
            return
        renewed = now


def _lose(held: Held, why: str) -> None:
    counts.LOCKS_LOST.add()
    logger.error("lost lock %s: %s", held.name, why)
    held.lost.set()
