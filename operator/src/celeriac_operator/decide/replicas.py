"""(pure) Was `replicas` taken out of a manifest that is applied, and which number was set before?

An apply deletes a field that the manifest had the last time and has no more, and the API server fills in the default,
1. Whoever takes the field out wants to leave the number to `kubectl scale` or to an autoscaler, not to set it to 1. Two
records show that this has happened: `kubectl apply` keeps the manifest in an annotation, and for a server-side apply
the API server records who has set which field. A default has no owner, whereas `kubectl replace` and `kubectl edit` own
the number that results.

Limit: the operator must see both versions of the pool; while it does not run, the number is reset.
"""

from __future__ import annotations

from collections.abc import Iterable

from celeriac_operator import bounded
from celeriac_operator.manifest import Draft, Manifest

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
DEFAULT = 1
_OWNS: Draft = {"f:spec": {"f:replicas": {}}}

APPLIED = bounded.Bounds(size=2**18, depth=bounded.LEVELS)
"""Bounds of a manifest in an annotation, which anybody who may write the pool chooses."""


def before_removal(before: Manifest | None, now: Manifest) -> int | None:
    """The number to restore; None: the number was not reset."""
    if before is None or before["metadata"]["uid"] != now["metadata"]["uid"]:
        return None
    number: int = before["spec"].get("replicas", DEFAULT)
    is_reset = now["spec"].get("replicas", DEFAULT) == DEFAULT != number
    is_taken_out = _sets_replicas(before) is True and _sets_replicas(now) is False
    is_given_up = "Apply" in _owners(before) and not _owners(now)
    return number if is_reset and (is_taken_out or is_given_up) else None


def keep(entries: Iterable[Manifest]) -> list[Draft]:
    """The part of managedFields that is worth remembering: who has set the number, and how."""
    return [
        {"manager": entry.get("manager", ""), "operation": entry.get("operation", ""), "fieldsV1": _OWNS}
        for entry in entries
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]


def _owners(pool: Manifest) -> set[str]:
    """How the number was set: Apply, Update or both; empty: it is the default."""
    return {entry["operation"] for entry in keep(pool["metadata"].get("managedFields") or ())}


def _sets_replicas(pool: Manifest) -> bool | None:
    """Whether the manifest that was applied sets the number; None: kubectl has applied none, or it cannot be read."""
    try:
        text = (pool["metadata"].get("annotations") or {})[LAST_APPLIED]
        applied = bounded.read_json(text.encode(errors="replace"), APPLIED)
        return "replicas" in applied["spec"]
    except (ValueError, KeyError, TypeError):
        return None
