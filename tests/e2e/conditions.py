"""What does a pool say of itself?"""

from __future__ import annotations

from demo import waiting
from demo.kubernetes import Kube, condition_of


def wait_for_condition(kube: Kube, pool: str, kind: str, reason: str, seconds: float = 60) -> str:
    """Wait until a condition has a reason, and return its message."""
    seen = waiting.until(
        f"{kind} of {pool} says {reason}",
        lambda: condition_of(kube.pool(pool), kind),
        lambda condition: condition.reason == reason and condition.is_current,
        seconds=seconds,
    )
    return seen.message


def describe(kube: Kube, pool: str) -> str:
    """What a person reads, as one line."""
    return " ".join(kube.kubectl("describe", "cwp", pool).split())
