"""(pure) Does somebody else write a pool's number of workers too, again and again?

Another autoscaler, or a program that applies a manifest with `replicas`, would undo each decision and have its own
undone, and workers would come and go for ever. So whoever is overruled steps back for a while. A person who scales once
by hand is overruled, and that is all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TIMES = 3
WITHIN_SECONDS = 120.0
"""Overruled so often in so short a time: the other one will not stop. A HorizontalPodAutoscaler acts every 15 s."""

STEP_BACK_SECONDS = 300.0
"""Then the number is left alone for so long."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What is known of others."""

    written: int | None = None
    """The number that the autoscaler has written and that nobody has changed since; None: none."""
    overruled_at: tuple[float, ...] = ()
    """When somebody changed it, lately."""
    until: float = 0.0
    """Until when it is left alone."""

    def writes(self) -> Contest:
        """The autoscaler is about to write: until it knows that it has, no number is anybody's."""
        return replace(self, written=None)

    def wrote(self, replicas: int) -> Contest:
        """The autoscaler has written this number."""
        return replace(self, written=replicas)

    def see(self, current: int, now: float) -> Contest:
        """This is the number now."""
        if self.written is None or current == self.written:
            return self
        lately = (*(at for at in self.overruled_at if now - at < WITHIN_SECONDS), now)
        if len(lately) >= TIMES:
            return Contest(until=now + STEP_BACK_SECONDS)
        return Contest(overruled_at=lately, until=self.until)

    def is_lost(self, now: float) -> bool:
        """Whether the number is to be left alone."""
        return now < self.until
