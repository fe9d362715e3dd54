"""Which policies does a simulation compare? Celeriac's, and two models of common autoscalers.

The models follow the documentation, not the code, of the originals, and get the same target:
- HorizontalPodAutoscaler (kubernetes.io, "Horizontal Pod Autoscaling"): every 15 s, desired = ceil(current x value /
  target), nothing within 10 % of the target, up by at most 100 % or 4 pods in 15 s, down after 300 s.
- KEDA (keda.sh, "ScaledObject specification"): from zero to one when a poll, every 30 s, finds messages; back to zero
  300 s after the last poll that did; between one and many a HorizontalPodAutoscaler on the length of the queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from celeriac_operator.autoscaling.policy import BacklogPerReplica, BusySlots, History, Latency, Spec, decide
from celeriac_operator.autoscaling.simulation.run import Seen

ROUND_SECONDS = 1.0
HPA_SYNC_SECONDS, HPA_WINDOW_SECONDS, HPA_TOLERANCE, HPA_PODS_AT_ONCE = 15.0, 300.0, 0.1, 4
KEDA_POLLING_SECONDS, KEDA_COOLDOWN_SECONDS = 30.0, 300.0
CPU_PERCENT = 80


@dataclass
class Celeriac:
    """Celeriac's policy, with one reading per second; the operator reads slightly more often."""

    spec: Spec
    name: str = "celeriac"
    interval_seconds: float = ROUND_SECONDS
    history: History = field(default_factory=History)

    def replicas(self, seen: Seen, *, current: int, now: float) -> int:
        decision = decide(self.spec, seen.figures, self.history, current=current, now=now)
        self.history = decision.history
        return decision.replicas


@dataclass
class _Hpa:
    """The common part of both models: a HorizontalPodAutoscaler, given the ratio of the value to its target."""

    spec: Spec
    wanted: list[tuple[float, int]] = field(default_factory=list)

    def replicas(self, *, ratio: float, current: int, now: float) -> int:
        least = max(1, self.spec.min_replicas)
        desired = current if abs(ratio - 1) <= HPA_TOLERANCE else math.ceil(current * ratio)
        desired = min(max(desired, least), self.spec.max_replicas)
        self.wanted = [(at, number) for at, number in self.wanted if at > now - HPA_WINDOW_SECONDS] or [(now, current)]
        self.wanted.append((now, desired))
        if desired < current:
            return min(current, max(number for _, number in self.wanted))
        return min(desired, max(2 * current, current + HPA_PODS_AT_ONCE))


@dataclass
class KedaLike:
    """KEDA on the length of the queue."""

    spec: Spec
    mean_seconds: float
    name: str = "keda-like"
    interval_seconds: float = HPA_SYNC_SECONDS
    polled_at: float = -math.inf
    active_at: float = -math.inf
    hpa: _Hpa = field(init=False)

    def __post_init__(self) -> None:
        self.hpa = _Hpa(self.spec)

    @property
    def list_length(self) -> float:
        """The same target in KEDA's terms: messages in the queue per worker."""
        match self.spec.target:
            case BacklogPerReplica(messages=messages):
                return messages
            case Latency(seconds=seconds):
                return max(1.0, self.spec.slots * seconds / self.mean_seconds)
            case BusySlots(percent=percent):
                return max(1.0, self.spec.slots * percent / 100)

    def replicas(self, seen: Seen, *, current: int, now: float) -> int:
        backlog, floor = seen.figures.backlog, self.spec.min_replicas
        if now - self.polled_at >= KEDA_POLLING_SECONDS:
            self.polled_at = now
            if backlog:
                self.active_at = now
            if current == 0:
                return max(floor, 1 if backlog else 0)
            if floor == 0 and now - self.active_at > KEDA_COOLDOWN_SECONDS:
                return 0
        if current == 0:
            return floor
        return self.hpa.replicas(ratio=backlog / (self.list_length * current), current=current, now=now)


@dataclass
class CpuLike:
    """A HorizontalPodAutoscaler on CPU, where a busy slot uses its whole share. It cannot scale from zero, so its
    minimum is one."""

    spec: Spec
    name: str = "hpa-cpu-like"
    interval_seconds: float = HPA_SYNC_SECONDS
    hpa: _Hpa = field(init=False)

    def __post_init__(self) -> None:
        self.hpa = _Hpa(self.spec)

    def replicas(self, seen: Seen, *, current: int, now: float) -> int:
        if current == 0 or not seen.ready_slots:
            return max(current, 1, self.spec.min_replicas)
        percent = 100 * min(1.0, seen.figures.busy_slots / seen.ready_slots)
        return self.hpa.replicas(ratio=percent / CPU_PERCENT, current=current, now=now)
