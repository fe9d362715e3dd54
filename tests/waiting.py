"""How does a test wait? It reads until a condition holds, and fails with the value that it read last.

There are two functions: one for tests that block and one for tests that run in an event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 60.0
"""Default limit of a wait. It is far above what is expected, because the machine may be busy."""
INTERVAL_SECONDS = 0.03


class NotInTimeError(AssertionError, TimeoutError):
    """The condition did not hold in time. The message names the condition and the value that was read last."""


def eventually(
    read: Callable[[], T],
    is_right: Callable[[T], object] = bool,
    *,
    timeout: float = LIMIT_SECONDS,
    what: str = "",
    every: float = INTERVAL_SECONDS,
) -> T:
    """Return the first value of `read` for which `is_right` is true.

    Args:
        read: Reads the value. It is called at least once. Its errors are passed on.
        is_right: The condition.
        timeout: Seconds until the wait fails.
        what: Name of the condition, for the message.
        every: Seconds between two reads.

    Raises:
        NotInTimeError: The condition did not hold within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = read()
        if is_right(value):
            return value
        if time.monotonic() > deadline:
            raise NotInTimeError(_sentence(timeout, what, is_right, value))
        time.sleep(every)


async def eventually_async(
    read: Callable[[], Awaitable[T]],
    is_right: Callable[[T], object] = bool,
    *,
    timeout: float = LIMIT_SECONDS,
    what: str = "",
    every: float = INTERVAL_SECONDS,
) -> T:
    """As `eventually`, with a `read` that is awaited; the event loop goes on between two reads."""
    deadline = time.monotonic() + timeout
    while True:
        value = await read()
        if is_right(value):
            return value
        if time.monotonic() > deadline:
            raise NotInTimeError(_sentence(timeout, what, is_right, value))
        await asyncio.sleep(every)


def _sentence(timeout: float, what: str, is_right: object, value: object) -> str:
    return f"not within {timeout:g} s: {what or is_right}; last seen: {value!r}"
