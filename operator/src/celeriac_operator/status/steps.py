"""(pure) Which steps of a change that somebody has asked for are worth an event?

The operator's own write is the moment, so no step is reported twice: the next pass finds nothing to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celeriac_operator import names
from celeriac_operator.decide import difference, observed
from celeriac_operator.decide.plan import Apply, Delete
from celeriac_operator.event import Event
from celeriac_operator.manifest import Manifest
from celeriac_operator.reasons import EventReason
from celeriac_operator.resource import CeleryWorkerPool


def taken(
    pool: CeleryWorkerPool, action: Apply | Delete, before: Manifest | None, setters: Iterable[str]
) -> Iterator[Event]:
    """Events about a write of the pool's Deployment that a change of the pool has caused.

    Args:
        pool: the pool.
        action: what was written.
        before: the Deployment before it; None: there was none.
        setters: the managers that have set the pool's number of workers.
    """
    settled = pool.status.observed_generation == pool.metadata.generation
    if settled or isinstance(action, Delete) or action.manifest["kind"] != "Deployment":
        return
    now = action.manifest
    if before is None:
        if pool.status.image is None:
            message = f"Deployment {now['metadata']['name']} with {_count(now)}, image {_image(now)}"
            yield Event(kind="Normal", reason=EventReason.CREATED, message=message)
        return
    if observed.template_hash(now) != observed.template_hash(before):
        yield Event(kind="Normal", reason=EventReason.ROLLING, message=_difference(action, before))
    if _replicas(now) != _replicas(before) and (pool.spec.autoscaling is None or pool.spec.suspend):
        why = "; suspended" if pool.spec.suspend else "".join(f"; set by {name}" for name in sorted(set(setters)))
        message = f"from {_replicas(before)} to {_count(now)}{why}"
        yield Event(kind="Normal", reason=EventReason.SCALED, message=message)


def _difference(action: Apply, before: Manifest) -> str:
    was, now = _image(before), _image(action.manifest)
    if was != now:
        return f"image {was} is replaced by {now}"
    wanted, there = (manifest["spec"]["template"]["spec"] for manifest in (action.manifest, before))
    # Only its path: a variable's value may be confidential.
    path = (difference.first(wanted, there) or difference.first(there, wanted) or "the pod template").partition(" is ")[
        0
    ]
    return f"the workers are replaced: {path.partition(' differs')[0]} has changed"


def _image(deployment: Manifest) -> str:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next((str(one["image"]) for one in containers if one["name"] == names.WORKER_CONTAINER), "")


def _replicas(deployment: Manifest) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _count(deployment: Manifest) -> str:
    number = _replicas(deployment)
    return "1 worker" if number == 1 else f"{number} workers"
