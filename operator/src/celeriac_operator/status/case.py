"""(pure) What do the rules of a status look at, and what do they find?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celeriac_operator.decide import plan
from celeriac_operator.decide.observed import Observed
from celeriac_operator.reasons import Cause


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The API server did not take an object; its sentence."""

    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule says."""

    cause: Cause
    message: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the rules look at."""

    seen: Observed
    plan: plan.Plan
    """What this pass meant to do."""
    refusal: Refusal | None
    """What the API server said to it, if it refused."""
    now: datetime
