"""(pure) Which fault happens when? The same seed gives the same plan."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass


class Kind(enum.Enum):
    """What is done to whom."""

    KILL_WORKER = "SIGKILL of a worker, its children left to themselves"
    KILL_ALL = "SIGKILL of a worker and its children"
    END_WORKER = "SIGTERM of a worker"
    KILL_CHILD = "SIGKILL of a child"
    END_CHILD = "SIGTERM of a child"
    PAUSE_WORKER = "worker paused for longer than its lease"
    KILL_REDIS = "Redis killed and started"
    RESTART_REDIS = "Redis restarted"
    PAUSE_REDIS = "Redis paused"

    @property
    def hits_redis(self) -> bool:
        return self in {Kind.KILL_REDIS, Kind.RESTART_REDIS, Kind.PAUSE_REDIS}


WEIGHTS = {
    Kind.KILL_WORKER: 4,
    Kind.KILL_ALL: 4,
    Kind.END_WORKER: 4,
    Kind.KILL_CHILD: 4,
    Kind.END_CHILD: 2,
    Kind.PAUSE_WORKER: 1,
    Kind.KILL_REDIS: 2,
    Kind.RESTART_REDIS: 1,
    Kind.PAUSE_REDIS: 2,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault of a plan."""

    at: float
    """Seconds from the beginning."""
    kind: Kind
    seconds: float
    """How long a pause or an outage lasts."""
    choice: float
    """In [0, 1): picks the victim among those there are."""


def build(seed: int, *, seconds: float, pause_seconds: float, gap_seconds: tuple[float, float]) -> list[Fault]:
    """Draw a plan.

    Args:
        seed: of the random choices.
        seconds: no fault begins later than this.
        pause_seconds: how long a worker is paused: longer than its lease.
        gap_seconds: the shortest and the longest time between two faults.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan that can be repeated
    # Each kind once, in any order, before chance alone decides: a short plan shows all of them too.
    first = list(WEIGHTS)
    chance.shuffle(first)
    faults: list[Fault] = []
    at = 0.0
    while (at := at + chance.uniform(*gap_seconds)) < seconds:
        kind = first.pop() if first else chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        lasts = pause_seconds if kind is Kind.PAUSE_WORKER else chance.uniform(0.1, 2.5)
        faults.append(Fault(at=at, kind=kind, seconds=lasts, choice=chance.random()))
    return faults
