"""(pure) Which workers go first when a pool shrinks?

A ReplicaSet that shrinks takes pods that are not ready, then those of the lowest deletion cost. So idle workers get a
low cost and busy ones a high one, and among equals the newest get the lowest: they have the least to lose, caches and
connections included. A worker that nobody could ask counts as busy. A pod without a cost counts as 0, which lies
between the idle and the busy ones: whatever is not written in time does no harm.

Costs follow from what a worker does and from its age alone, not from the other workers: they are written again only
for a worker that has begun or ended its work since.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from celeriac_operator import labels, names
from celeriac_operator.manifest import Manifest

SPAN: Final = 2**30
"""A cost is a signed number of 32 bits; idle and busy workers have half of it each, a number for each second of age."""

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No worker is older; the seconds since then last for 34 years."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker pod that may have to go."""

    name: str
    uid: str
    created_at: datetime
    status_url: str
    """Where it says what it does; empty: it has no address yet, or no port for that."""
    cost: int
    """Its deletion cost as it is; 0: it has none."""
    leaving: bool
    """It is on its way out already."""


class WorkerReply(enum.Enum):
    """What a worker said of itself; the values are the metric's."""

    IDLE = "idle"
    BUSY = "busy"
    NONE = "none"
    """It did not answer in time, or nothing that can be read."""


@dataclass(frozen=True, kw_only=True)
class Marking:
    """A cost to be written."""

    worker: Worker
    cost: int


def read_worker(manifest: Manifest) -> Worker:
    """Keep of a pod what the choice is made of."""
    metadata = manifest["metadata"]
    return Worker(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        status_url=_status_url(manifest),
        cost=_number((metadata.get("annotations") or {}).get(labels.DELETION_COST)),
        leaving="deletionTimestamp" in metadata,
    )


def read_reply(body: bytes) -> WorkerReply:
    """Understand a worker's `/status`. What it holds for a slot is work too; what waits for its time is not."""
    try:
        said = json.loads(body)
        busy, prefetched = said["busy"], said["prefetched"]
    except (ValueError, KeyError, TypeError, RecursionError):  # the last: brackets within brackets, without end
        return WorkerReply.NONE
    if type(busy) is not int or type(prefetched) is not int:
        return WorkerReply.NONE
    return WorkerReply.BUSY if busy > 0 or prefetched > 0 else WorkerReply.IDLE


def candidates(before: Manifest | None, wanted: Manifest, workers: Iterable[Worker]) -> tuple[Worker, ...]:
    """Workers among which a change of the Deployment makes Kubernetes choose, newest first; empty: no choice is made.

    None is made when the pool does not shrink, or when all of them go.
    """
    kept, were = wanted["spec"]["replicas"], before["spec"].get("replicas", 1) if before else 0
    if not 0 < kept < were:
        return ()
    there = [worker for worker in workers if not worker.leaving]
    return tuple(sorted(there, key=_newest_first)) if len(there) > kept else ()


def mark(workers: Iterable[Worker], replies: Mapping[str, WorkerReply]) -> tuple[Marking, ...]:
    """Costs that differ from those that are there, in the order in which they are of use: idle workers, newest first.

    Args:
        replies: by uid; a worker that is missing has not answered.
    """
    idle: list[Marking] = []
    busy: list[Marking] = []
    for worker in sorted(workers, key=_newest_first):
        is_idle = replies.get(worker.uid, WorkerReply.NONE) is WorkerReply.IDLE
        (idle if is_idle else busy).append(Marking(worker=worker, cost=cost(worker.created_at, is_idle=is_idle)))
    return tuple(marking for marking in (*idle, *busy) if marking.cost != marking.worker.cost)


def cost(created_at: datetime, *, is_idle: bool) -> int:
    """The deletion cost of one worker: below 0 for an idle one, above it for a busy one; the newer, the lower."""
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


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0  # as Kubernetes takes it
