"""(pure) What do the metrics say of the queues that are read?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from celeriac_operator.autoscaling import policy
from celeriac_operator.autoscaling.brokers.readings import Reading
from celeriac_operator.autoscaling.scaling_request import ScalingRequest
from celeriac_operator.memory.caches import Key
from celeriac_operator.metrics import QueueSample, ScalingSample

MEASURED_SECONDS: Final = 60.0
"""Older figures of queues are not exported."""


@dataclass(frozen=True)
class Measured:
    """What is known of one pool's queues."""

    key: Key
    request: ScalingRequest
    reading: Reading
    age_seconds: float


def scaling(known: Iterable[Measured]) -> list[ScalingSample]:
    """The figures of pools with autoscaling."""
    return [
        ScalingSample(
            namespace=it.key.namespace,
            pool=it.key.name,
            replicas=it.request.replicas,
            backlog=it.reading.figures.backlog,
            in_flight=it.reading.figures.in_flight,
            busy_slots=it.reading.figures.busy_slots,
            oldest_seconds=it.reading.figures.oldest_age_seconds,
            age_seconds=max(0.0, it.age_seconds),
        )
        for it in known
        if it.request.spec is not None
    ]


def queues(known: Iterable[Measured]) -> list[QueueSample]:
    """The figures of all pools."""
    return [_queues(it) for it in known if it.age_seconds <= MEASURED_SECONDS]


def _queues(it: Measured) -> QueueSample:
    oldest, spec = it.reading.figures.oldest_age_seconds, it.request.spec
    target = spec.target if spec else None
    return QueueSample(
        namespace=it.key.namespace,
        pool=it.key.name,
        replicas=it.request.replicas,
        backlog=it.reading.figures.backlog,
        oldest_seconds=None if oldest is None else oldest + max(0.0, it.age_seconds),
        max_replicas=spec.max_replicas if spec else None,
        latency_seconds=target.seconds if isinstance(target, policy.Latency) else None,
    )
