"""(pure) Which fault happens when? The same seed gives the same plan."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass


class Target(enum.Enum):
    """What a fault concerns; one that is still in effect is not joined by another one of Redis."""

    WORKER = "one worker or child"
    REDIS = "the server, which does not do its work meanwhile"
    CLOCK = "the wall clock of a host"
    QUEUE = "one queue of several"
    MESSAGES = "what is in the queues"


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
    OUTAGE = "Redis killed and away for longer than the lease"
    FLUSH_SCRIPTS = "SCRIPT FLUSH"
    KILL_CLIENTS = "CLIENT KILL of every connection"
    PAUSE_CLIENTS = "CLIENT PAUSE"
    FILL_MEMORY = "Redis at maxmemory"
    REFUSE_WRITES = "Redis refuses writes: too few replicas"
    REFUSE_CLIENTS = "every connection closed, and maxclients reached"
    STEP_REDIS = "the clock of Redis' host stepped by more than the lease, and back"
    STEP_WORKER = "the clock of a worker's host stepped by more than the lease, and back"
    WRONG_TYPE = "a queue's key of a wrong type"
    MALFORMED = "malformed messages between good ones"
    FILL_GREEN = "all slots of the gevent and eventlet workers taken"
    RUSH = "a call of each of 64 threads at once"
    RUSH_AWAY = "a call of each of 64 threads while Redis is restarted"

    @property
    def target(self) -> Target:
        return _TARGETS.get(self, Target.REDIS)

    @property
    def is_long(self) -> bool:
        """Whether it lasts for longer than a lease."""
        return self in {Kind.PAUSE_WORKER, Kind.OUTAGE}


_TARGETS = {
    **dict.fromkeys(
        (
            Kind.KILL_WORKER,
            Kind.KILL_ALL,
            Kind.END_WORKER,
            Kind.KILL_CHILD,
            Kind.END_CHILD,
            Kind.PAUSE_WORKER,
        ),
        Target.WORKER,
    ),
    Kind.STEP_REDIS: Target.CLOCK,
    Kind.STEP_WORKER: Target.CLOCK,
    Kind.WRONG_TYPE: Target.QUEUE,
    **dict.fromkeys((Kind.MALFORMED, Kind.FILL_GREEN, Kind.RUSH), Target.MESSAGES),
}


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
    Kind.OUTAGE: 1,
    Kind.FLUSH_SCRIPTS: 2,
    Kind.KILL_CLIENTS: 2,
    Kind.PAUSE_CLIENTS: 1,
    Kind.FILL_MEMORY: 1,
    Kind.REFUSE_WRITES: 1,
    Kind.REFUSE_CLIENTS: 1,
    Kind.STEP_REDIS: 2,
    Kind.STEP_WORKER: 2,
    Kind.WRONG_TYPE: 1,
    Kind.MALFORMED: 3,
    Kind.FILL_GREEN: 3,
    Kind.RUSH: 3,
    Kind.RUSH_AWAY: 1,
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

    def pick(self, count: int) -> int:
        """The number of the victim, from 0, among `count`."""
        return int(self.choice * count)


def build(seed: int, *, seconds: float, pause_seconds: float, gap_seconds: tuple[float, float]) -> list[Fault]:
    """Draw a plan.

    Args:
        seed: of the random choices.
        seconds: no fault begins later than this.
        pause_seconds: how long a worker is paused, or Redis is away, where that is to be longer than the lease.
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
        lasts = pause_seconds if kind.is_long else chance.uniform(0.1, 2.5)
        faults.append(Fault(at=at, kind=kind, seconds=lasts, choice=chance.random()))
    return faults
