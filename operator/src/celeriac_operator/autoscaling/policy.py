"""(pure) How many workers should a pool have now, given its spec, the figures, and the earlier decisions?

Scaling up happens at once, by any factor. Scaling down goes only to the highest number that was wanted within the
stabilisation window; if the window was not observed from its beginning (first decision, restart, gap in the figures),
the current number counts as wanted. Zero is reached only if no message is ready and none is in flight, and left at the
first message. Without fresh figures the number is not changed in either direction: a broker that does not respond is
not an empty queue.

Limits: a decision is only as good as its figures. Work that was taken and finished between two readings is not seen;
the window compensates for this. Messages with a later ETA (countdown, eta) count only if the figures include them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from celeriac_operator.labels import Pause
from celeriac_operator.reasons import Activity

STALE_SECONDS = 10.0
"""Older figures are not used: that is twelve missed rounds of a loop that reads every 0.8 s."""

LEAST_TIME_LEFT = 0.1
"""Share of the latency target in which the backlog should be started if its oldest message is already late."""


@dataclass(frozen=True, kw_only=True)
class BacklogPerReplica:
    """Messages, ready or in flight, for each worker."""

    messages: int

    def __post_init__(self) -> None:
        _require(self.messages >= 1, "messages for each worker must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Longest time that a message should wait before it starts."""

    seconds: float

    def __post_init__(self) -> None:
        _require(self.seconds > 0, "a latency must be above 0 seconds")


@dataclass(frozen=True, kw_only=True)
class BusySlots:
    """Share of all slots that should be busy, counting each waiting message as a busy slot."""

    percent: int

    def __post_init__(self) -> None:
        _require(1 <= self.percent <= 100, "a share of busy slots must be between 1 and 100 percent")


Target = BacklogPerReplica | Latency | BusySlots


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A pool's autoscaling settings.

    Raises:
        ValueError: a number is out of range; the message says which.
    """

    min_replicas: int
    max_replicas: int
    target: Target
    slots: int = 1
    """Tasks that one worker runs at a time."""
    stabilization_seconds: float = 60.0
    """Scaling down happens only if fewer workers were wanted for this long."""
    pause: Pause | None = None
    """Direction in which scaling is paused; None: it is not paused."""

    def __post_init__(self) -> None:
        _require(0 <= self.min_replicas <= self.max_replicas, "replicas need 0 <= minimum <= maximum")
        _require(self.max_replicas >= 1, "the maximum of replicas must be at least 1")
        _require(self.slots >= 1, "a worker has at least 1 slot")
        _require(self.stabilization_seconds >= 0, "a stabilisation window cannot be negative")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was read from the broker and reported by the workers.

    Raises:
        ValueError: a count is negative, so it cannot be the reading of a queue.
    """

    read_at: float
    """Time of the reading in seconds, on the clock of `now`."""
    backlog: int
    """Messages ready, in all queues and priorities of the pool."""
    in_flight: int = 0
    """Messages delivered and not acknowledged."""
    busy_slots: int = 0
    """Slots that run a task."""
    oldest_age_seconds: float | None = None
    """Seconds that the oldest ready message has waited; None: the producer did not record when it was sent."""
    service_seconds: float | None = None
    """Mean runtime of recent tasks in seconds; None: none was measured yet."""
    unschedulable: int = 0
    """Workers that cannot be scheduled."""

    def __post_init__(self) -> None:
        counts = (self.backlog, self.in_flight, self.busy_slots, self.unschedulable)
        _require(min(counts) >= 0, f"figures cannot be negative: {counts}")

    @property
    def held(self) -> int:
        """Messages that workers hold. A slot may be busy with a message that was acknowledged early."""
        return max(self.in_flight, self.busy_slots)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The number that was wanted at one moment."""

    at: float
    replicas: int


@dataclass(frozen=True, kw_only=True)
class History:
    """What a decision needs to know of earlier ones. Empty after a start; it is not stored anywhere."""

    wanted: tuple[Wanted, ...] = ()
    """Numbers within the window, oldest first, each larger than all later ones: only these can be a maximum later."""
    waiting_since: float | None = None
    """Since when messages have been waiting; None: the backlog is empty."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision for one pool at one moment."""

    replicas: int
    """Number of workers that the pool should have."""
    reason: str
    """Why, for people."""
    activity: Activity = Activity.ACTIVE
    """The reason of the condition ScalingActive."""
    history: History = field(default_factory=History)
    """Argument of the next decision."""

    @property
    def is_active(self) -> bool:
        """Whether the condition ScalingActive is True."""
        return self.activity is Activity.ACTIVE


def decide(spec: Spec, figures: Figures | None, history: History, *, current: int, now: float) -> Decision:
    """Decide for one pool at one moment.

    Args:
        figures: the newest reading; None: the broker cannot be reached.
        history: that of the previous decision, or an empty one.
        current: the pool's `spec.replicas`.
        now: on the clock of the figures, in seconds.
    """
    if figures is None:
        return _frozen(current, Activity.BROKER_UNREACHABLE, "the broker does not respond")
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
    # The history is dropped: it says nothing about the gap, so the window begins again after it.
    return Decision(replicas=current, reason=f"held at {current}: {why}", activity=activity)


def _demand(spec: Spec, figures: Figures, *, current: int, waiting_seconds: float) -> tuple[int, str]:
    """The number that the target requires, before bounds and history."""
    work = f"backlog {figures.backlog}" + (f" + {figures.held} in flight" if figures.held else "")
    match spec.target:
        case BacklogPerReplica(messages=messages):
            return math.ceil((figures.backlog + figures.held) / messages), f"{work} / {messages} per replica"
        case BusySlots(percent=percent):
            # In integers: 0.8 has no exact binary form, and a rounding error could add a worker.
            used = figures.busy_slots + figures.backlog
            replicas = -(-used * 100 // (percent * spec.slots))
            slots = f"backlog {figures.backlog} + {figures.busy_slots} busy slots"
            return replicas, f"{slots} at {percent}% of {spec.slots} slots per replica"
        case Latency(seconds=seconds):
            service = figures.service_seconds
            age = _oldest_age(spec, figures, current=current, waiting_seconds=waiting_seconds)
            needed = slots_for_latency(figures, seconds=seconds, oldest_age_seconds=age)
            measured = f"{service:.3g} s each" if service is not None else "runtime not known yet"
            waited = f", oldest waits {age:.1f} s" if figures.backlog else ""
            return math.ceil(needed / spec.slots), f"{work}, {measured}{waited}, to start within {seconds:g} s"


def slots_for_latency(figures: Figures, *, seconds: float, oldest_age_seconds: float) -> int:
    """Count the slots that are needed so that the waiting messages start in time.

    By Little's law the number of messages in flight is the arrival rate times the runtime, so that many slots keep up
    with the arrivals. The waiting messages need further slots: enough to start all of them in the time that the oldest
    has left. More slots than messages are never needed. Until a runtime is measured, a task is assumed to take as long
    as the target.
    """
    left = max(seconds - oldest_age_seconds, seconds * LEAST_TIME_LEFT)
    service = figures.service_seconds if figures.service_seconds is not None else seconds
    return figures.held + min(figures.backlog, math.ceil(figures.backlog * service / left))


def _oldest_age(spec: Spec, figures: Figures, *, current: int, waiting_seconds: float) -> float:
    """The recorded age; else an estimate by Little's law, at most the time for which messages have been waiting."""
    if figures.oldest_age_seconds is not None:
        return figures.oldest_age_seconds
    if figures.service_seconds is None or current == 0:
        return waiting_seconds
    return min(waiting_seconds, figures.backlog * figures.service_seconds / (current * spec.slots))


def _within_bounds(spec: Spec, figures: Figures, replicas: int, reason: str) -> tuple[int, str]:
    if figures.backlog or figures.held:
        replicas = max(replicas, 1)  # a target that counts only slots must not go to zero with messages in flight
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
    """Apply the rules that forbid a direction. The minimum overrides missing nodes; a pause overrides the minimum."""
    floor = max(current, spec.min_replicas)
    if figures.unschedulable and current > 0 and replicas > floor:
        replicas, reason = floor, f"{reason}: {replicas}, held at {floor}: {figures.unschedulable} cannot be scheduled"
    no_more, no_less = spec.pause in (Pause.OUT, Pause.BOTH), spec.pause in (Pause.IN, Pause.BOTH)
    if (replicas > current and no_more) or (replicas < current and no_less):
        return current, f"{reason}: {replicas}, held at {current}: scaling is paused ({spec.pause})"
    return replicas, reason
