"""(pure) What does a worker know of one delivery that it holds, or that it may hold?"""

from __future__ import annotations

from dataclasses import dataclass

from celeriac.delivery.values.outcomes import Outcome


@dataclass(slots=True)
class Holding:
    """One held message."""

    queue: str
    ended: bool = False
    """Its task has ended, and it is about to be settled."""
    kept: bool = False
    """It runs on, and the connection that it came by is gone."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """A delivery that is still held, and is to be given back."""

    due: float
    """On the monotonic clock."""
    outcome: Outcome
    why: str
    again: bool = False
    """It was tried already, and may have succeeded without an answer."""
