"""(pure) Does another writer keep changing a pool's number of workers?

Another autoscaler, or a program that applies a manifest with `replicas`, would undo each decision of the autoscaler and
have its own writes undone, and workers would be started and stopped for ever. So the autoscaler pauses when its writes
are undone repeatedly. A person who scales once by hand is overruled without such a pause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TIMES = 3
WITHIN_SECONDS = 120.0
"""TIMES changes by another writer within this time count as a contest. A HorizontalPodAutoscaler acts every 15 s."""

STEP_BACK_SECONDS = 300.0
"""Time for which the autoscaler then leaves the number alone."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What is known of other writers."""

    written: int | None = None
    """The number that the autoscaler has written and nobody has changed since; None: there is none."""
    overruled_at: tuple[float, ...] = ()
    """Times of recent changes by others."""
    until: float = 0.0
    """Time until which the number is left alone."""

    def writes(self) -> Contest:
        """The autoscaler is about to write; until the write succeeds, no number counts as its own."""
        return replace(self, written=None)

    def wrote(self, replicas: int) -> Contest:
        """The autoscaler has written this number."""
        return replace(self, written=replicas)

    def see(self, current: int, now: float) -> Contest:
        """Take in the current number."""
        if self.written is None or current == self.written:
            return self
        lately = (*(at for at in self.overruled_at if now - at < WITHIN_SECONDS), now)
        if len(lately) >= TIMES:
            return Contest(until=now + STEP_BACK_SECONDS)
        return Contest(overruled_at=lately, until=self.until)

    def is_lost(self, now: float) -> bool:
        """Whether the number must be left alone."""
        return now < self.until
