"""(pure) Which workers are removed first when a pool is scaled down?

A ReplicaSet first removes pods that are not ready, then those with the lowest deletion cost. So idle workers get a low
cost and busy workers a high one, and of two idle or two busy workers the newer gets the lower cost: its caches and
connections are the least valuable. A worker that does not reply counts as busy. A pod without a cost counts as 0, which
is between idle and busy, so a cost that is not written in time does no harm.

A cost depends only on the worker's state and age, not on other workers. So it is written again only for a worker that
has begun or finished its work since.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from celeriac_operator import bounded, labels, names
from celeriac_operator.manifest import Manifest

SPAN: Final = 2**30
"""A cost is a signed 32-bit number; idle and busy workers have half of the range each, one number per second of age."""

STATUS: Final = bounded.Bounds(size=2**20)
"""Bounds of a worker's status, in which a worker with many slots names its tasks. A pod may serve anything there."""

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No worker is older. The range covers 34 years from here."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker pod that may be removed."""

    name: str
    uid: str
    created_at: datetime
    owned_by: str
    """The Deployment that it belongs to by its owner, a ReplicaSet; empty: none."""
    status_url: str
    """URL of its status; empty: the pod has no address yet, or no such port."""
    cost: int
    """Its current deletion cost; 0: it has none."""
    leaving: bool
    """Whether it is being deleted."""


class WorkerReply(enum.Enum):
    """What a worker replied; the values are label values of a metric."""

    IDLE = "idle"
    BUSY = "busy"
    NONE = "none"
    """There was no reply in time, or none that can be read."""


@dataclass(frozen=True, kw_only=True)
class Marking:
    """A deletion cost to be written."""

    worker: Worker
    cost: int


def read_worker(manifest: Manifest) -> Worker:
    """Read from a pod what the choice needs."""
    metadata = manifest["metadata"]
    return Worker(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        owned_by=_deployment(manifest),
        status_url=_status_url(manifest),
        cost=_number((metadata.get("annotations") or {}).get(labels.DELETION_COST)),
        leaving="deletionTimestamp" in metadata,
    )


def read_reply(body: bytes) -> WorkerReply:
    """Read a worker's `/status`. Prefetched messages count as work; messages with a later ETA do not."""
    try:
        said = bounded.read_json(body, STATUS)
    except bounded.OutOfBoundsError:
        return WorkerReply.NONE
    busy, prefetched = (said.get("busy"), said.get("prefetched")) if isinstance(said, dict) else (None, None)
    if type(busy) is not int or type(prefetched) is not int:
        return WorkerReply.NONE
    return WorkerReply.BUSY if busy > 0 or prefetched > 0 else WorkerReply.IDLE


def candidates(before: Manifest | None, wanted: Manifest, workers: Iterable[Worker]) -> tuple[Worker, ...]:
    """Workers among which Kubernetes will choose when it applies the Deployment, newest first.

    Empty: there is no choice, because the pool does not become smaller, or because all workers go.
    """
    kept, were = wanted["spec"]["replicas"], before["spec"].get("replicas", 1) if before else 0
    if not 0 < kept < were:
        return ()
    there = [worker for worker in workers if not worker.leaving]
    return tuple(sorted(there, key=_newest_first)) if len(there) > kept else ()


def mark(workers: Iterable[Worker], replies: Mapping[str, WorkerReply]) -> tuple[Marking, ...]:
    """Costs that must be written, the most useful first: idle workers before busy ones, newest first.

    Args:
        replies: by uid; a worker that is missing has not replied.
    """
    idle: list[Marking] = []
    busy: list[Marking] = []
    for worker in sorted(workers, key=_newest_first):
        is_idle = replies.get(worker.uid, WorkerReply.NONE) is WorkerReply.IDLE
        (idle if is_idle else busy).append(Marking(worker=worker, cost=cost(worker.created_at, is_idle=is_idle)))
    return tuple(marking for marking in (*idle, *busy) if marking.cost != marking.worker.cost)


def cost(created_at: datetime, *, is_idle: bool) -> int:
    """The deletion cost of one worker: negative if idle, positive if busy; the newer the worker, the lower the cost."""
    age = min(max(int((created_at - EPOCH).total_seconds()), 1), SPAN - 1)
    return -age if is_idle else SPAN - age


def _newest_first(worker: Worker) -> tuple[float, str]:
    return -worker.created_at.timestamp(), worker.name


def _status_url(manifest: Manifest) -> str:
    address = (manifest.get("status") or {}).get("podIP", "")
    ports = (
        port
        for container in (manifest.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
    )
    port = next((port["containerPort"] for port in ports if port.get("name") == names.HEALTH_PORT), None)
    if not address or port is None:
        return ""
    return f"http://[{address}]:{port}/status" if ":" in address else f"http://{address}:{port}/status"


def _deployment(manifest: Manifest) -> str:
    owners = manifest["metadata"].get("ownerReferences") or ()
    owner: Manifest = next((it for it in owners if it.get("controller")), {})
    if owner.get("kind") != "ReplicaSet" or not str(owner.get("apiVersion")).startswith("apps/"):
        return ""
    return str(owner["name"]).rpartition("-")[0]  # <Deployment>-<hash>


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0  # as Kubernetes reads it
