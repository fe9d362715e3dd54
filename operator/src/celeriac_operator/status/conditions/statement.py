"""(pure) What does a condition state, before its time of transition is known?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from celeriac_operator.reasons import Meaningful, Type

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Statement:
    """A condition without its time of transition."""

    type: Type
    status: ConditionStatus
    reason: Meaningful
    message: str
