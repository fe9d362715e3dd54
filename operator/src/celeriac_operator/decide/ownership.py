"""(pure) Which fields of an owned object have other managers set, and how does the operator take them over?

Kubernetes records in `metadata.managedFields` which manager has set which field. A field that the operator's manifest
does not have is left if nobody is recorded for it: the API server has filled it in, or an admission webhook has added
it (a sidecar). A field that another manager has set is removed: somebody has edited the object.

Server-side apply removes a field only from its own manager's set. So the operator first moves the fields of the others
to its own entry, which changes nothing in the object, and then applies its manifest, which removes them. Both sides of
a one-of (httpGet and exec, value and valueFrom) are thus exchanged in one request, where a plain apply would be
refused.

Left alone: `spec.paused`, which `kubectl rollout pause` sets and the status reports, and annotations of the pod
template, by which `kubectl rollout restart` and similar tools restart workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from celeriac_operator import names
from celeriac_operator.decide import difference
from celeriac_operator.manifest import Draft, Manifest

OWN_ANNOTATIONS = "f:celeriac.dev/"

# What the API server adds to an item's key where the manifest leaves it out.
KEY_DEFAULTS = {"protocol": "TCP"}

_ANNOTATIONS = ("f:template", "f:metadata", "f:annotations")


def keep(entries: Iterable[Manifest]) -> list[Draft]:
    """The part of managedFields that is worth remembering: what others have set in the spec, and who."""
    kept = []
    for entry in entries:
        taken, _ = _split(entry)
        if taken:
            kept.append({"manager": entry.get("manager", ""), "time": entry.get("time", ""), "fieldsV1": taken})
    return kept


def added(manifest: Manifest, there: Manifest) -> tuple[str, ...]:
    """What another manager has set in the spec and the manifest does not have: the path, and who has set it."""
    return tuple(
        f"{'.'.join(path)} was added by {entry['manager']}"
        for entry in there["metadata"].get("managedFields") or ()
        for path in _added(entry["fieldsV1"].get("f:spec", {}), manifest.get("spec"), there.get("spec"), ("spec",))
    )


def editor(there: Manifest) -> str:
    """The manager that has changed the spec most recently; empty: only the operator has set it."""
    entries = there["metadata"].get("managedFields") or ()
    return max(((entry["time"], entry["manager"]) for entry in entries), default=("", ""))[1]


def taken_over(entries: Iterable[Manifest]) -> list[Draft]:
    """managedFields after the operator's entry has got everything that others have set in the spec."""
    own: Draft = {"manager": names.FIELD_MANAGER, "operation": "Apply", "apiVersion": "", "fieldsType": "FieldsV1"}
    fields: Draft = {}
    others = []
    for entry in entries:
        if _is_own(entry):
            own, fields = dict(entry), _union(fields, entry["fieldsV1"])
            continue
        taken, left = _split(entry)
        fields = _union(fields, taken)
        own["apiVersion"] = own["apiVersion"] or entry["apiVersion"]
        if left:
            others.append({**entry, "fieldsV1": left})
    return [{**own, "fieldsV1": fields}, *others]


def _is_own(entry: Manifest) -> bool:
    return entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply"


def _split(entry: Manifest) -> tuple[Draft, Draft]:
    """An entry's fields, in those that the operator takes over and those that it leaves."""
    fields: Draft = dict(entry.get("fieldsV1") or {})
    if _is_own(entry) or entry.get("subresource") == "status" or "f:spec" not in fields:
        return {}, fields
    taken, left = _without(dict(fields.pop("f:spec")), ("f:paused",))
    inner = taken
    for key in _ANNOTATIONS[:-1]:
        inner = inner.get(key, {})
    annotations = inner.get(_ANNOTATIONS[-1], {})
    foreign = {key: value for key, value in annotations.items() if not key.startswith(OWN_ANNOTATIONS)}
    if foreign:
        left = _union(left, {"f:template": {"f:metadata": {"f:annotations": foreign}}})
        taken = _remove(taken, (*_ANNOTATIONS,), set(foreign))
    return ({"f:spec": taken} if taken else {}), ({**fields, "f:spec": left} if left else fields)


def _without(fields: Draft, keys: Iterable[str]) -> tuple[Draft, Draft]:
    left = {key: fields.pop(key) for key in keys if key in fields}
    return fields, left


def _remove(fields: Manifest, path: tuple[str, ...], keys: set[str]) -> Draft:
    """The fields without these keys of the map at the path, and without maps that become empty."""
    if not path:
        return {key: value for key, value in fields.items() if key not in keys}
    inner = _remove(fields[path[0]], path[1:], keys)
    rest = {key: value for key, value in fields.items() if key != path[0]}
    return {**rest, path[0]: inner} if set(inner) - {"."} else rest


def _union(one: Manifest, other: Manifest) -> Draft:
    merged = dict(one)
    for key, value in other.items():
        merged[key] = _union(merged[key], value) if key in merged else value
    return merged


def _added(fields: Manifest, wanted: Any, there: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not fields and isinstance(wanted, Mapping | list):
        # One manager sets the whole map or list. An apply of ours would leave what it does not mention.
        if difference.first(there, wanted) is not None:
            yield path
        return
    for key, inner in fields.items():
        if key == ".":
            continue
        name, found = _step(key, wanted)
        if found is None:
            yield (*path, name)
        else:
            yield from _added(inner, found, _step(key, there)[1], (*path, name))


def _step(key: str, wanted: Any) -> tuple[str, Any]:
    """The name of a field or list item, and what the manifest has there; None: nothing."""
    kind, _, rest = key.partition(":")
    if kind == "f":
        return rest, wanted.get(rest) if isinstance(wanted, Mapping) else None
    if kind == "k" and isinstance(wanted, list):
        identity = json.loads(rest)
        shown = "/".join(str(value) for value in identity.values())
        items = (item for item in wanted if _matches(item, identity))
        return f"[{shown}]", next(items, None)
    if kind == "v" and isinstance(wanted, list):
        value = json.loads(rest)
        return f"[{value}]", value if value in wanted else None
    return rest, None


def _matches(item: Any, identity: Manifest) -> bool:
    return all(item.get(key, KEY_DEFAULTS.get(key)) == value for key, value in identity.items())
