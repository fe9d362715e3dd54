"""(pure) When does a connection ask for messages, when does it only wait, and when is a reply overdue?

A connection that found every list empty waits for the server's announcement. It asks without an announcement after a
long silence, because a half-open connection loses announcements. If the server does not announce changes, the
connection polls at growing intervals.

All idle workers are notified of each message, and the server notifies them in the same order each time. A waiting line
in Redis keeps them from asking all at once, and spreads the messages over the workers: the first in the line asks at
once, each of the others one step later. Each reply contains the worker's new place.
"""

from __future__ import annotations

from typing import Final

SIGN_OF_LIFE_SECONDS: Final = 5.0
"""A waiting connection asks at least this often."""
OVERDUE_SECONDS: Final = 10.0
"""If a reply takes longer, the connection counts as dead."""
LONGEST_POLL_SECONDS: Final = 1.0
SHORTEST_POLL_SECONDS: Final = 0.02
STEP_SECONDS: Final = 0.00025
"""Delay for each place in the line; the server needs a tenth of it to notify one worker after another."""
LONGEST_LINE_SECONDS: Final = 0.05
"""Upper bound of the wait, in case workers ahead in the line have gone."""


class Pace:
    """The times of one connection; `now` is a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._asked_at = 0.0
        self._waiting_since: float | None = None
        self._wait_seconds = SIGN_OF_LIFE_SECONDS
        self._turn_at: float | None = None
        self._place = 0
        self.empty_at: float | None = None
        """When every list was last seen empty."""

    @property
    def expects_nothing(self) -> bool:
        """Return whether all lists are probably empty: nothing was announced, or other workers ask first."""
        return self._waiting_since is not None or self._place > 0

    def asked(self, now: float) -> None:
        """Note that a request was sent."""
        self._asked_at = now
        self._place = 0
        self._waiting_since = self._turn_at = None

    def listens(self, now: float, place: int) -> None:
        """Note that every list is empty and the server will announce changes; `place` in the line counts from 0."""
        self._place = place
        self._waiting_since = self.empty_at = now
        self._wait_seconds = SIGN_OF_LIFE_SECONDS

    def polls(self, now: float, *, found: bool) -> float:
        """Every list is empty, and the server does not announce changes: return the seconds until the next request."""
        self._waiting_since = self.empty_at = now
        if found or self._wait_seconds > LONGEST_POLL_SECONDS:
            self._wait_seconds = SHORTEST_POLL_SECONDS
        else:
            self._wait_seconds = min(LONGEST_POLL_SECONDS, self._wait_seconds * 1.5)
        self._turn_at = now + self._wait_seconds
        return self._wait_seconds

    def announced(self, now: float) -> float:
        """A list has changed: return the seconds until the next request."""
        self._waiting_since = None
        seconds = min(LONGEST_LINE_SECONDS, STEP_SECONDS * self._place)
        self._turn_at = now + seconds if seconds else None
        return seconds

    def must_wait(self, now: float) -> bool:
        """Return whether it is too early for a request."""
        return self._turn_at is not None and now < self._turn_at

    def seconds_to_turn(self, now: float) -> float:
        """Return the seconds until there is something to do; one second if no time is set."""
        return 1.0 if self._turn_at is None else max(0.0, self._turn_at - now)

    def is_quiet_for_long(self, now: float) -> bool:
        """Return whether a waiting connection must ask without an announcement."""
        return self._waiting_since is not None and now - self._waiting_since > self._wait_seconds

    def is_overdue(self, now: float) -> bool:
        """Return whether a reply is overdue, so that the connection counts as dead."""
        return now - self._asked_at > OVERDUE_SECONDS
