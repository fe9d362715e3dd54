"""(pure) What does a worker know about one delivery that it holds, or may hold?"""

from __future__ import annotations

from dataclasses import dataclass

from celeriac.delivery.values.outcomes import Outcome


@dataclass(slots=True)
class Holding:
    """One held message."""

    queue: str
    ended: bool = False
    """Whether its task has ended; it will be settled soon."""
    kept: bool = False
    """Whether its task runs on after the connection that delivered it was closed."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """A delivery that is still held and will be given back."""

    due: float
    """On the monotonic clock."""
    outcome: Outcome
    why: str
    again: bool = False
    """Whether it was tried before; that attempt may have succeeded although its reply was lost."""
