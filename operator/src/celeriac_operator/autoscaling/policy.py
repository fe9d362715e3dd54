"""(pure) How many workers should a pool have now, by what is asked for, what was read, and what was wanted before?

Up at once, by any factor. Down only to the most that was wanted within the stabilisation window, and a window that was
not watched from its beginning (a first look, a restart, a gap in the figures) counts what runs as wanted. To zero only
when nothing is ready and nothing is in flight; from zero on the first message. Without fresh figures the number stays
as it is, in both directions: a broker that does not answer is no empty queue.

Limits: a decision is as good as its figures. Work that was taken and finished between two readings is not seen, which
the window covers; messages whose time has not come (countdown, eta) count only where the figures count them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from celeriac_operator.labels import Pause
from celeriac_operator.reasons import Activity

STALE_SECONDS = 10.0
"""Older figures decide nothing: twelve missed rounds of a loop that reads every 0.8 s."""

LEAST_TIME_LEFT = 0.1
"""Share of the latency target in which the backlog is to be worked off when its oldest message is already late."""


@dataclass(frozen=True, kw_only=True)
class BacklogPerReplica:
    """So many messages, ready or in flight, for each worker."""

    messages: int

    def __post_init__(self) -> None:
        _require(self.messages >= 1, "messages for each worker must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """No message waits longer than this before it starts."""

    seconds: float

    def __post_init__(self) -> None:
        _require(self.seconds > 0, "a latency must be above 0 seconds")


@dataclass(frozen=True, kw_only=True)
class BusySlots:
    """This share of all slots is used, counting each waiting message as one that will use a slot."""

    percent: int

    def __post_init__(self) -> None:
        _require(1 <= self.percent <= 100, "a share of busy slots must be between 1 and 100 percent")


Target = BacklogPerReplica | Latency | BusySlots


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a pool asks for.

    Raises:
        ValueError: a number makes no sense; the message says which.
    """

    min_replicas: int
    max_replicas: int
    target: Target
    slots: int = 1
    """Tasks that one worker runs at a time."""
    stabilization_seconds: float = 60.0
    """The number goes down only when less was wanted for so long."""
    pause: Pause | None = None
    """Holds the number in one direction or both; None moves it freely."""

    def __post_init__(self) -> None:
        _require(0 <= self.min_replicas <= self.max_replicas, "replicas need 0 <= minimum <= maximum")
        _require(self.max_replicas >= 1, "the maximum of replicas must be at least 1")
        _require(self.slots >= 1, "a worker has at least 1 slot")
        _require(self.stabilization_seconds >= 0, "a stabilisation window cannot be negative")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the broker and the workers said.

    Raises:
        ValueError: a count is negative: whatever said so, it was no reading of a queue.
    """

    read_at: float
    """When, on the clock of `now`, in seconds."""
    backlog: int
    """Messages ready, in all queues and priorities of the pool."""
    in_flight: int = 0
    """Messages delivered and not acknowledged."""
    busy_slots: int = 0
    """Slots that run a task."""
    oldest_age_seconds: float | None = None
    """How long the oldest ready message has waited; None where nobody noted when it was sent."""
    service_seconds: float | None = None
    """Mean runtime of recent tasks; None before one was measured."""
    unschedulable: int = 0
    """Workers that found no node."""

    def __post_init__(self) -> None:
        counts = (self.backlog, self.in_flight, self.busy_slots, self.unschedulable)
        _require(min(counts) >= 0, f"figures cannot be negative: {counts}")

    @property
    def held(self) -> int:
        """Messages that workers have. A slot may be busy with one that was acknowledged early."""
        return max(self.in_flight, self.busy_slots)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was wanted at one moment."""

    at: float
    replicas: int


@dataclass(frozen=True, kw_only=True)
class History:
    """What a decision must know of those before it. Empty after a start: nothing of it needs to be kept anywhere."""

    wanted: tuple[Wanted, ...] = ()
    """Within the window, oldest first, each larger than all after it: only these can be a maximum later."""
    waiting_since: float | None = None
    """When the backlog was last empty before it was not; None while it is."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer."""

    replicas: int
    """What the pool should have."""
    reason: str
    """Why, in words for people."""
    activity: Activity = Activity.ACTIVE
    """The reason of the condition ScalingActive."""
    history: History = field(default_factory=History)
    """To be given to the next decision."""

    @property
    def is_active(self) -> bool:
        """Status of the condition ScalingActive."""
        return self.activity is Activity.ACTIVE


def decide(spec: Spec, figures: Figures | None, history: History, *, current: int, now: float) -> Decision:
    """Answer for one pool at one moment.

    Args:
        figures: the newest reading; None when the broker cannot be reached.
        history: of the last decision, or an empty one.
        current: the pool's `spec.replicas`.
        now: on the clock of the figures, in seconds.
    """
    if figures is None:
        return _frozen(current, Activity.BROKER_UNREACHABLE, "the broker does not answer")
    age = now - figures.read_at
    if age > STALE_SECONDS:
        return _frozen(current, Activity.FIGURES_STALE, f"the newest figures are {age:.0f} s old")
    waiting_since = (history.waiting_since if history.waiting_since is not None else now) if figures.backlog else None
    replicas, reason = _demand(spec, figures, current=current, waiting_seconds=now - (waiting_since or now))
    replicas, reason = _within_bounds(spec, figures, replicas, reason)
    window = _remember(history.wanted, Wanted(at=now, replicas=replicas), spec, current=current)
    replicas, reason = _stabilise(replicas, reason, window, current=current, seconds=spec.stabilization_seconds)
    replicas, reason = _hold(spec, figures, replicas, reason, current=current)
    return Decision(replicas=replicas, reason=reason, history=History(wanted=window, waiting_since=waiting_since))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _frozen(current: int, activity: Activity, why: str) -> Decision:
    # The history goes: what was wanted before the gap says nothing about the gap, so the window begins anew after it.
    return Decision(replicas=current, reason=f"held at {current}: {why}", activity=activity)


def _demand(spec: Spec, figures: Figures, *, current: int, waiting_seconds: float) -> tuple[int, str]:
    """What the target asks for, before bounds and history."""
    work = f"backlog {figures.backlog}" + (f" + {figures.held} in flight" if figures.held else "")
    match spec.target:
        case BacklogPerReplica(messages=messages):
            return math.ceil((figures.backlog + figures.held) / messages), f"{work} / {messages} per replica"
        case BusySlots(percent=percent):
            # In whole numbers: 0.8 has no exact binary form, and one slot more would be one worker more.
            used = figures.busy_slots + figures.backlog
            replicas = -(-used * 100 // (percent * spec.slots))
            words = f"backlog {figures.backlog} + {figures.busy_slots} busy slots"
            return replicas, f"{words} at {percent}% of {spec.slots} slots per replica"
        case Latency(seconds=seconds):
            service = figures.service_seconds
            age = _oldest_age(spec, figures, current=current, waiting_seconds=waiting_seconds)
            needed = slots_for_latency(figures, seconds=seconds, oldest_age_seconds=age)
            measured = f"{service:.3g} s each" if service is not None else "runtime not yet known"
            waited = f", oldest waits {age:.1f} s" if figures.backlog else ""
            return math.ceil(needed / spec.slots), f"{work}, {measured}{waited}, to start within {seconds:g} s"


def slots_for_latency(figures: Figures, *, seconds: float, oldest_age_seconds: float) -> int:
    """Count the slots with which what waits starts in time.

    By Little's law the messages in flight are arrivals a second times the seconds each takes: keeping that many slots
    keeps up with the arrivals. Those that wait need slots on top: enough to start all of them in the time left to the
    oldest. More slots than messages help nobody. Before a runtime was measured, a task is taken to last as long as the
    target.
    """
    left = max(seconds - oldest_age_seconds, seconds * LEAST_TIME_LEFT)
    service = figures.service_seconds if figures.service_seconds is not None else seconds
    return figures.held + min(figures.backlog, math.ceil(figures.backlog * service / left))


def _oldest_age(spec: Spec, figures: Figures, *, current: int, waiting_seconds: float) -> float:
    """Take the age as it was noted; else what Little's law says, and never more than the backlog has existed."""
    if figures.oldest_age_seconds is not None:
        return figures.oldest_age_seconds
    if figures.service_seconds is None or current == 0:
        return waiting_seconds
    return min(waiting_seconds, figures.backlog * figures.service_seconds / (current * spec.slots))


def _within_bounds(spec: Spec, figures: Figures, replicas: int, reason: str) -> tuple[int, str]:
    if figures.backlog or figures.held:
        replicas = max(replicas, 1)  # in flight under a target that counts only slots: still no reason for zero
    if replicas > spec.max_replicas:
        return spec.max_replicas, f"{reason}: {replicas}, at most {spec.max_replicas}"
    if replicas < spec.min_replicas:
        return spec.min_replicas, f"{reason}: {replicas}, at least {spec.min_replicas}"
    return replicas, reason


def _remember(window: tuple[Wanted, ...], newest: Wanted, spec: Spec, *, current: int) -> tuple[Wanted, ...]:
    if not window:
        running = min(max(current, spec.min_replicas), spec.max_replicas)
        window = (Wanted(at=newest.at, replicas=running),)
    oldest = newest.at - spec.stabilization_seconds
    return (*(past for past in window if past.at > oldest and past.replicas > newest.replicas), newest)


def _stabilise(
    replicas: int, reason: str, window: tuple[Wanted, ...], *, current: int, seconds: float
) -> tuple[int, str]:
    most = window[0].replicas
    if replicas >= current or most == replicas:
        return replicas, reason
    kept = min(most, current)
    return kept, f"{reason}: {replicas}, but {most} were wanted within {seconds:g} s"


def _hold(spec: Spec, figures: Figures, replicas: int, reason: str, *, current: int) -> tuple[int, str]:
    """Apply what forbids a direction. The floor stands above missing nodes, and a person's pause above the floor."""
    floor = max(current, spec.min_replicas)
    if figures.unschedulable and current > 0 and replicas > floor:
        replicas, reason = floor, f"{reason}: {replicas}, held at {floor}: {figures.unschedulable} found no node"
    no_more, no_less = spec.pause in (Pause.OUT, Pause.BOTH), spec.pause in (Pause.IN, Pause.BOTH)
    if (replicas > current and no_more) or (replicas < current and no_less):
        return current, f"{reason}: {replicas}, held at {current}: scaling is paused ({spec.pause})"
    return replicas, reason
