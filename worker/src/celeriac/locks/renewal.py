"""How is a lock kept while its owner works? A thread for each renewed lock extends it until its owner ends.

The thread refers to the owner weakly: a lock whose object was collected, or whose thread has ended, is not renewed any
more and expires.
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
"""Renewals in one timeout."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A lock that is held, as its renewal sees it."""

    client: Any
    name: Any
    """The lock's name as its user wrote it, for log lines."""
    key: bytes
    token: bytes
    timeout: float
    """Seconds that each renewal gives."""
    max_hold: float | None
    """Seconds after which renewing stops; `None`: never."""
    lost: threading.Event
    """Set when the lock is lost."""


class LockRenewal:
    """Extends one lock until it is stopped, until the lock is lost or held for too long, or until nobody has it.

    Its owner keeps a reference to it; when the last one is gone, so is the owner.
    """

    def __init__(self, held: Held) -> None:
        self._stopped = threading.Event()
        arguments = (weakref.ref(self), self._stopped, held)
        self._thread = threading.Thread(target=_renew, args=arguments, name=f"celeriac-lock-{held.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Renew no more. A renewal that is being sent still arrives."""
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
            _lose(held, "it expired or was taken over")
            return
        renewed = now


def _lose(held: Held, why: str) -> None:
    counts.LOCKS_LOST.add()
    logger.error("lost lock %s: %s", held.name, why)
    held.lost.set()
