"""(pure) When does a connection ask for messages, when does it only wait, and when is an answer overdue?

A connection that found every list empty waits for the server's announcement, and asks without one when it has been
quiet for long: an announcement is lost with a half-open connection. Where the server announces nothing, it asks again
in growing intervals.

All idle workers hear of one message. One that came too late waits a little longer before it tries the next time, so
that a crowd does not run for every message; one that found something runs at once again.
"""

from __future__ import annotations

from typing import Final

SIGN_OF_LIFE_SECONDS: Final = 5.0
"""A waiting connection asks at least this often."""
OVERDUE_SECONDS: Final = 10.0
"""An answer that takes longer means that the connection is dead."""
LONGEST_POLL_SECONDS: Final = 1.0
SHORTEST_POLL_SECONDS: Final = 0.02
LONGEST_SPREAD_SECONDS: Final = 0.05
SHORTEST_SPREAD_SECONDS: Final = 0.001


class Pace:
    """The times of one connection; `now` is any clock in seconds that only goes forward."""

    def __init__(self) -> None:
        self._asked_at = 0.0
        self._waiting_since: float | None = None
        self._wait_seconds = SIGN_OF_LIFE_SECONDS
        self._turn_at: float | None = None
        self._spread_seconds = 0.0
        self._was_announced = False

    def asked(self, now: float) -> None:
        """A question was sent."""
        self._asked_at = now
        self._waiting_since = self._turn_at = None

    def answered(self, *, found: bool) -> None:
        """Its answer came, with messages or without."""
        if self._was_announced:
            self._was_announced = False
            longer = min(LONGEST_SPREAD_SECONDS, max(SHORTEST_SPREAD_SECONDS, self._spread_seconds * 2))
            self._spread_seconds = 0.0 if found else longer

    def listens(self, now: float) -> None:
        """Every list is empty, and the server announces the next message."""
        self._waiting_since = now
        self._wait_seconds = SIGN_OF_LIFE_SECONDS

    def polls(self, now: float, *, found: bool) -> float:
        """Every list is empty, and the server announces nothing: seconds until the next question."""
        self._waiting_since = now
        if found or self._wait_seconds > LONGEST_POLL_SECONDS:
            self._wait_seconds = SHORTEST_POLL_SECONDS
        else:
            self._wait_seconds = min(LONGEST_POLL_SECONDS, self._wait_seconds * 1.5)
        self._turn_at = now + self._wait_seconds
        return self._wait_seconds

    def announced(self, now: float, chance: float) -> float:
        """A list has changed: seconds until the next question; `chance` is a random number in [0, 1)."""
        self._was_announced = True
        self._waiting_since = None
        seconds = self._spread_seconds * chance
        self._turn_at = now + seconds if seconds else None
        return seconds

    def must_wait(self, now: float) -> bool:
        """Is it too early for a question?"""
        return self._turn_at is not None and now < self._turn_at

    def seconds_to_turn(self, now: float) -> float:
        """How long there is nothing to do; a second where no time is set."""
        return 1.0 if self._turn_at is None else max(0.0, self._turn_at - now)

    def is_quiet_for_long(self, now: float) -> bool:
        """Must a waiting connection ask without an announcement?"""
        return self._waiting_since is not None and now - self._waiting_since > self._wait_seconds

    def is_overdue(self, now: float) -> bool:
        """Has a question been without an answer for so long that the connection is dead?"""
        return now - self._asked_at > OVERDUE_SECONDS
