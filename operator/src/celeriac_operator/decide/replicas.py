"""(pure) Was `replicas` taken out of a manifest that is applied with kubectl, and which number was set before?

`kubectl apply` without --server-side deletes a field that the manifest had the last time and has no more, and the API
server fills in the default, 1. Whoever takes the field out wants to leave the number to `kubectl scale` or to an
autoscaler, not to set it to 1. kubectl keeps the manifest in an annotation, which shows what its author has written.

Limit: the operator must see both versions of the pool; while it does not run, the number is reset.
"""

from __future__ import annotations

from celeriac_operator import bounded
from celeriac_operator.manifest import Manifest

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
DEFAULT = 1

APPLIED = bounded.Bounds(size=2**18, depth=bounded.LEVELS)
"""Bounds of a manifest in an annotation, which anybody who may write the pool chooses."""


def before_removal(before: Manifest | None, now: Manifest) -> int | None:
    """The number to restore; None: the number was not reset."""
    if before is None or before["metadata"]["uid"] != now["metadata"]["uid"]:
        return None
    number: int = before["spec"].get("replicas", DEFAULT)
    is_reset = now["spec"].get("replicas", DEFAULT) == DEFAULT != number
    return number if is_reset and _sets_replicas(before) is True and _sets_replicas(now) is False else None


def _sets_replicas(pool: Manifest) -> bool | None:
    """Whether the manifest that was applied sets the number; None: kubectl has applied none, or it cannot be read."""
    try:
        text = (pool["metadata"].get("annotations") or {})[LAST_APPLIED]
        applied = bounded.read_json(text.encode(errors="replace"), APPLIED)
        return "replicas" in applied["spec"]
    except (ValueError, KeyError, TypeError):
        return None
