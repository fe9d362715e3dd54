"""What happens to a trace of tasks when a policy decides the number of workers? Time is simulated.

A worker needs `start_seconds` before it takes tasks, and then runs `slots` tasks at a time, oldest message first. In a
scale-down, starting and idle workers are removed first, and a busy worker drains. So no policy kills a running task
here, which favours policies that would. Network, brokers and nodes take no time and do not fail.

Invariant: arrived tasks = done + waiting + running.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from celeriac_operator.autoscaling.policy import Figures
from celeriac_operator.autoscaling.simulation.arrivals import Task

RECENT_TASKS = 100
"""Number of tasks of which the mean runtime is taken."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a policy may use."""

    figures: Figures
    ready_slots: int


class ScalingPolicy(Protocol):
    """A policy that decides every `interval_seconds`, first after half of that time."""

    name: str
    interval_seconds: float

    def replicas(self, seen: Seen, *, current: int, now: float) -> int: ...


@dataclass(frozen=True, kw_only=True)
class World:
    """The simulated pool: slots of a worker, and seconds from its creation until it takes tasks."""

    slots: int
    start_seconds: float
    replicas: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One moment of a run. `replicas` does not count draining workers."""

    at: float
    replicas: int
    backlog: int
    oldest_wait_seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """The result of a run. `waits` has the seconds that each started task waited, in the order of starts."""

    arrived: int
    done: int
    waiting: int
    running: int
    waits: tuple[float, ...]
    samples: tuple[Sample, ...]
    replica_hours: float

    def share_within(self, seconds: float) -> float:
        """Share of all tasks that started within this time."""
        return sum(wait <= seconds for wait in self.waits) / self.arrived if self.arrived else 1.0

    def wait_at(self, share: float) -> float:
        """The wait that this share of the started tasks did not exceed, in seconds."""
        return sorted(self.waits)[min(int(len(self.waits) * share), len(self.waits) - 1)] if self.waits else 0.0


@dataclass(eq=False)
class _Worker:
    created_at: float
    ready: bool = False
    leaving: bool = False
    busy: int = 0


@dataclass
class _State:
    world: World
    waiting: deque[Task] = field(default_factory=deque)
    workers: list[_Worker] = field(default_factory=list)
    runtimes: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_TASKS))
    waits: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    arrived: int = 0
    done: int = 0
    replica_seconds: float = 0.0

    @property
    def kept(self) -> list[_Worker]:
        return [worker for worker in self.workers if not worker.leaving]

    @property
    def running(self) -> int:
        return sum(worker.busy for worker in self.workers)

    def oldest_wait(self, now: float) -> float:
        return now - self.waiting[0].at if self.waiting else 0.0

    def see(self, now: float) -> Seen:
        figures = Figures(
            read_at=now,
            backlog=len(self.waiting),
            in_flight=self.running,
            busy_slots=self.running,
            oldest_age_seconds=self.oldest_wait(now),
            service_seconds=sum(self.runtimes) / len(self.runtimes) if self.runtimes else None,
        )
        return Seen(figures=figures, ready_slots=self.world.slots * sum(worker.ready for worker in self.kept))

    def remove(self, worker: _Worker, now: float) -> None:
        self.workers.remove(worker)
        self.replica_seconds += now - worker.created_at


def run(tasks: Sequence[Task], policy: ScalingPolicy, world: World, *, seconds: float, sample_seconds: float) -> Run:
    """Simulate the tasks, which must be in the order of their times, for this many seconds."""
    state = _State(world, workers=[_Worker(0.0, ready=True) for _ in range(world.replicas)])
    order = itertools.count()
    # (when, which of equal moments came first, what happens, to which worker, for which task)
    events: list[tuple[float, int, str, _Worker | None, Task | None]] = []

    def push(at: float, what: str, worker: _Worker | None = None, task: Task | None = None) -> None:
        heapq.heappush(events, (at, next(order), what, worker, task))

    for arrival in tasks:
        push(arrival.at, "arrives", task=arrival)
    push(policy.interval_seconds / 2, "round")
    push(0.0, "sample")
    while events and events[0][0] <= seconds:
        now, _, what, worker, task = heapq.heappop(events)
        if what == "arrives" and task is not None:
            state.arrived += 1
            state.waiting.append(task)
        elif what == "ready" and worker is not None:
            worker.ready = True
        elif what == "ends" and worker is not None and task is not None:
            _end(state, worker, task, now)
        elif what == "round":
            wanted = policy.replicas(state.see(now), current=len(state.kept), now=now)
            for created in _resize(state, wanted, now):
                push(now + world.start_seconds, "ready", created)
            push(now + policy.interval_seconds, "round")
        elif what == "sample":
            state.samples.append(
                Sample(
                    at=now,
                    replicas=len(state.kept),
                    backlog=len(state.waiting),
                    oldest_wait_seconds=state.oldest_wait(now),
                )
            )
            push(now + sample_seconds, "sample")
        for busy, started in _start(state, now):
            push(now + started.service_seconds, "ends", busy, started)
    return _finish(state, seconds)


def _start(state: _State, now: float) -> list[tuple[_Worker, Task]]:
    started: list[tuple[_Worker, Task]] = []
    if not state.waiting:
        return started
    for worker in state.workers:
        while worker.ready and not worker.leaving and worker.busy < state.world.slots and state.waiting:
            task = state.waiting.popleft()
            worker.busy += 1
            state.waits.append(now - task.at)
            started.append((worker, task))
    return started


def _end(state: _State, worker: _Worker, task: Task, now: float) -> None:
    worker.busy -= 1
    state.done += 1
    state.runtimes.append(task.service_seconds)
    if worker.leaving and not worker.busy:
        state.remove(worker, now)


def _resize(state: _State, wanted: int, now: float) -> list[_Worker]:
    kept = state.kept
    created = [_Worker(now) for _ in range(wanted - len(kept))]
    state.workers.extend(created)
    victims = sorted(kept, key=lambda worker: (worker.ready, worker.busy, -worker.created_at))
    for worker in victims[: max(0, len(kept) - wanted)]:
        worker.leaving = True
        if not worker.busy:
            state.remove(worker, now)
    return created


def _finish(state: _State, seconds: float) -> Run:
    running = state.running
    for worker in list(state.workers):
        state.remove(worker, seconds)
    return Run(
        arrived=state.arrived,
        done=state.done,
        waiting=len(state.waiting),
        running=running,
        waits=tuple(state.waits),
        samples=tuple(state.samples),
        replica_hours=state.replica_seconds / 3_600,
    )
