"""(pure) What do the rules of a status look at, and what do they find?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celeriac_operator.decide import plan
from celeriac_operator.decide.observed import Observed
from celeriac_operator.reasons import Cause


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The API server refused an object; `message` is its sentence."""

    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule has found."""

    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the rules evaluate."""

    seen: Observed
    plan: plan.Plan
    """The plan of this pass."""
    refusal: Refusal | None
    """The API server's refusal; None: it accepted the plan."""
    now: datetime
    grace_seconds: float = 0.0
    """Seconds for which a pool must have been failing before it is Stalled."""
