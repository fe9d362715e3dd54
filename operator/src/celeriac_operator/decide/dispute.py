"""(pure) Does somebody keep undoing what the operator applies, and how long does the operator pause?

A program that wants an owned object differently would otherwise get an answer to each of its writes, several a second
and for ever, and workers would be replaced each time. The edits of a person are corrected at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

TIMES = 5
WITHIN = timedelta(seconds=120)
"""TIMES corrections of one object within this time are a dispute. It ends when this time has passed without another."""

FIRST_PAUSE = timedelta(seconds=10)
MAX_PAUSE = timedelta(seconds=300)
"""The pause after each further correction is twice as long, up to this."""


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """What is known of the corrections of one object."""

    corrected_at: tuple[datetime, ...] = ()
    """Times of recent corrections."""
    pauses: int = 0
    """Pauses so far; 0: there is no dispute yet."""
    until: datetime | None = None
    """End of the pause in which the object is not corrected; None: it is corrected at once."""
    reason: str = ""
    """The last difference, for people."""

    @property
    def is_open(self) -> bool:
        """Whether there is a dispute."""
        return self.pauses > 0

    def seconds_left(self, now: datetime) -> float:
        """Rest of the pause; 0: the object may be corrected."""
        return max(0.0, (self.until - now).total_seconds()) if self.until else 0.0

    def is_over(self, now: datetime) -> bool:
        """Whether nothing has been corrected for long enough that the record can be discarded."""
        return now >= max(self.until or now, *self.corrected_at, now - WITHIN) + WITHIN

    def seconds_to_end(self, now: datetime) -> float:
        """Until it is over if nothing is corrected."""
        return (max(self.until or now, *self.corrected_at) + WITHIN - now).total_seconds()

    def corrected(self, now: datetime, reason: str) -> Dispute:
        """The object has been corrected once more."""
        recent = (*(at for at in self.corrected_at if now - at < WITHIN), now)
        if not self.is_open and len(recent) < TIMES:
            return Dispute(corrected_at=recent, reason=reason)
        pause = min(MAX_PAUSE, FIRST_PAUSE * 2**self.pauses)
        return Dispute(corrected_at=recent[-TIMES:], pauses=self.pauses + 1, until=now + pause, reason=reason)
