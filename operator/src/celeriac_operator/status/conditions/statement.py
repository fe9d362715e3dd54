"""(pure) What a condition says, before it is known since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from celeriac_operator.reasons import Meaningful, Type

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Statement:
    """A condition without its time."""

    type: Type
    status: ConditionStatus
    reason: Meaningful
    message: str
