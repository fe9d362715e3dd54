"""(pure) Where are the queues of a pool, and what does it request of the autoscaler?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from celeriac_operator import labels, names
from celeriac_operator.autoscaling import policy
from celeriac_operator.autoscaling.brokers.readings import Watched
from celeriac_operator.desired import contract
from celeriac_operator.manifest import Manifest
from celeriac_operator.resource import Autoscaling, CeleryWorkerPool, Target


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a broker's URL is stored."""

    url: str = field(default="", repr=False)
    """The URL, if the pool has it in the clear; else empty."""
    secret: str = ""
    """The Secret of the pool's namespace that holds the URL; empty: `url` has it."""
    key: str = ""
    """The key of that Secret."""
    management: str = ""
    """URL of RabbitMQ's management API; empty: on the broker's host."""


@dataclass(frozen=True, kw_only=True)
class ScalingRequest:
    """The request of one pool that names its broker and its queues."""

    watched: Watched
    source: Source
    spec: policy.Spec | None
    """What the policy needs; None: the pool has no autoscaling, and its queues are only reported."""
    replicas: int
    """The pool's `spec.replicas`."""
    is_suspended: bool
    """Whether the pool is suspended: its queues are read, and nothing is written."""


def read(pool: CeleryWorkerPool, deployment: Manifest | None) -> ScalingRequest | None:
    """Read a pool's request; None: it does not name its broker and its queues, or is being deleted."""
    scaling, broker = pool.spec.autoscaling, pool.spec.broker
    # The API server refuses autoscaling without a broker; a pool stored under an older CRD is left alone.
    if broker is None or not pool.spec.queues or pool.metadata.deletion_timestamp is not None:
        return None
    management = scaling.management_url or "" if scaling else ""
    if broker.url_from is not None:
        secret = broker.url_from.secret_key_ref
        where = Source(secret=secret.name, key=secret.key, management=management)
    else:
        where = Source(url=broker.url or "", management=management)
    return ScalingRequest(
        watched=Watched(
            f"{pool.metadata.namespace}/{pool.metadata.name}", pool.spec.queues, is_scaled=scaling is not None
        ),
        source=where,
        spec=_spec(pool, scaling, deployment) if scaling else None,
        replicas=pool.spec.replicas,
        is_suspended=pool.spec.suspend,
    )


def _spec(pool: CeleryWorkerPool, scaling: Autoscaling, deployment: Manifest | None) -> policy.Spec:
    return policy.Spec(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        target=_target(scaling.target),
        slots=_slots(pool, deployment),
        stabilization_seconds=scaling.scale_down.stabilization_seconds,
        pause=labels.pause(pool),
    )


def _target(target: Target) -> policy.Target:
    if target.backlog_per_replica is not None:
        return policy.BacklogPerReplica(messages=target.backlog_per_replica)
    if target.latency_seconds is not None:
        return policy.Latency(seconds=target.latency_seconds)
    return policy.BusySlots(percent=target.busy_slots_percent or 100)


def _slots(pool: CeleryWorkerPool, deployment: Manifest | None) -> int:
    """Slots of one worker, read from its Deployment, because a patch of the pod template may have set the cpu limit."""
    found = _configured_slots(deployment) if pool.spec.worker.concurrency is None else None
    return found or contract.slots(pool.spec, None)


def _configured_slots(deployment: Manifest | None) -> int | None:
    containers = deployment["spec"]["template"]["spec"]["containers"] if deployment else []
    for container in containers:
        for variable in container.get("env") or () if container["name"] == names.WORKER_CONTAINER else ():
            if variable["name"] == contract.CONFIG_VARIABLE:
                return _concurrency(variable.get("value", ""))
    return None


def _concurrency(text: str) -> int | None:
    try:
        found = json.loads(text)["worker"]["concurrency"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if type(found) is int and found > 0 else None
