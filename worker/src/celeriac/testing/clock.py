"""The clocks of a test."""

from __future__ import annotations

import time


class Clock:
    """A clock that stands still until it is moved. It starts at the real time."""

    def __init__(self) -> None:
        self.now = time.time()
        """Seconds since the epoch."""

    def advance(self, seconds: float) -> None:
        """Move it forward.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"seconds is {seconds!r}: a clock goes forward")
        self.now += seconds


class RealClock(Clock):
    """The real clock; `advance` waits."""

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    @now.setter
    def now(self, value: float) -> None:
        """The base class sets it once."""

    def advance(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))
