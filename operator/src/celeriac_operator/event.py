"""(pure) What is recorded about a pool as a Kubernetes event?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Event:
    """A Kubernetes event about the pool."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
