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
    """The API server's refusal of the workers' objects; None: it accepted them."""
    now: datetime
    secret_refusal: Refusal | None = None
    """The API server's refusal of the Secret for the DSN, without which workers run too; None: it accepted it."""
    grace_seconds: float = 0.0
    """Seconds for which a pool must have been failing before it is Stalled."""
