"""How does the demo wait? It reads until a condition holds, with a deadline, and reports the last value."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

State = TypeVar("State")


class TimedOutError(Exception):
    """What was waited for did not happen in time; the message names it and the last state seen."""


def until(
    what: str,
    read: Callable[[], State],
    accept: Callable[[State], object],
    *,
    seconds: float,
    every: float = 0.25,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> State:
    """Return the first state from `read` that `accept` finds good.

    Errors from `read` are passed on: `read` has to express a state that may be missing for a while.

    Args:
        what: what is waited for, as the middle of a sentence ("the pool is ready").
        read: reads the state; called at least once, and once more at the deadline.
        accept: says whether that state is good.
        seconds: how long to wait at most.
        every: seconds between two reads.
        clock: seconds that only grow.
        sleep: waits for that many seconds.

    Raises:
        TimedOutError: it was not so in time.
    """
    deadline = clock() + seconds
    while True:
        state = read()
        if accept(state):
            return state
        left = deadline - clock()
        if left <= 0:
            raise TimedOutError(f"waited {seconds:g} s until {what}; last seen: {state}")
        sleep(min(every, left))
