"""(pure) When does a connection ask for messages, when does it only wait, and when is an answer overdue?

A connection that found every list empty waits for the server's announcement, and asks without one when it has been
quiet for long: an announcement is lost with a half-open connection. Where the server announces nothing, it asks again
in growing intervals.

All idle workers hear of each message, and the server tells them in the same order each time. So that a crowd does not
run for every message, and not always the same worker gets it, those who wait stand in a line that the server keeps: the
first asks at once, each other one a step later; with each answer they learn their new place.
"""

from __future__ import annotations

from typing import Final

SIGN_OF_LIFE_SECONDS: Final = 5.0
"""A waiting connection asks at least this often."""
OVERDUE_SECONDS: Final = 10.0
"""An answer that takes longer means that the connection is dead."""
LONGEST_POLL_SECONDS: Final = 1.0
SHORTEST_POLL_SECONDS: Final = 0.02
STEP_SECONDS: Final = 0.00025
"""How long one place in the line takes; the server needs a tenth of that to tell one worker after the other."""
LONGEST_LINE_SECONDS: Final = 0.05
"""Those farther behind wait no longer: who stood before them may be gone."""


class Pace:
    """The times of one connection; `now` is any clock in seconds that only goes forward."""

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
        """Are all lists thought empty: nothing was announced, or others stand in front?"""
        return self._waiting_since is not None or self._place > 0

    def asked(self, now: float) -> None:
        """A question was sent."""
        self._asked_at = now
        self._place = 0
        self._waiting_since = self._turn_at = None

    def listens(self, now: float, place: int) -> None:
        """Every list is empty, and the server announces the next message; `place` is that in the line, from 0."""
        self._place = place
        self._waiting_since = self.empty_at = now
        self._wait_seconds = SIGN_OF_LIFE_SECONDS

    def polls(self, now: float, *, found: bool) -> float:
        """Every list is empty, and the server announces nothing: seconds until the next question."""
        self._waiting_since = self.empty_at = now
        if found or self._wait_seconds > LONGEST_POLL_SECONDS:
            self._wait_seconds = SHORTEST_POLL_SECONDS
        else:
            self._wait_seconds = min(LONGEST_POLL_SECONDS, self._wait_seconds * 1.5)
        self._turn_at = now + self._wait_seconds
        return self._wait_seconds

    def announced(self, now: float) -> float:
        """A list has changed: seconds until the next question."""
        self._waiting_since = None
        seconds = min(LONGEST_LINE_SECONDS, STEP_SECONDS * self._place)
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
