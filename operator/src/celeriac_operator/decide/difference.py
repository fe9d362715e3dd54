"""(pure) Does an object already match the wanted manifest, given what the API server does to a manifest?

The object must contain the wanted manifest. The server adds defaults, and other managers add fields of their own
(kubectl rollout restart adds an annotation); neither is a difference. A field that the pool no longer sets shows too,
because the hash of the pod template is one of the compared fields. Quantities are compared by amount, since 1000m reads
back as 1. An empty value equals an absent one, since the server drops most empty values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac_operator import quantity

# Lists that server-side apply merges item by item, so other managers may add items. Every other list is atomic.
LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
}

# Maps that have one manager as a whole: what others add changes their meaning.
_ATOMIC = ("selector",)

_AMOUNTS_IN = ("limits", "requests")
_AMOUNTS = ("sizeLimit", "divisor", "storage")

_EMPTY: tuple[Any, ...] = (None, "", 0, False, [], {})

SHOWN_CHARACTERS = 60


def first(wanted: Any, there: Any) -> str | None:
    """Path and values of the first difference, for people; None: there is none."""
    return _value(wanted, there, ())


def _value(wanted: Any, there: Any, path: tuple[str, ...]) -> str | None:
    if isinstance(wanted, Mapping) and not (path and path[-1] in _ATOMIC):
        return _map(wanted, there if isinstance(there, Mapping) else {}, path)
    if isinstance(wanted, list) and isinstance(there, list):
        return _list(wanted, there, path)
    if _is_same(wanted, there, path):
        return None
    if path[-1:] == ("value",):  # of an environment variable: its value may be confidential
        return f"{_shown_path(path)} differs"
    return f"{_shown_path(path)} is {_shown(there)}, not {_shown(wanted)}"


def _map(wanted: Mapping[str, Any], there: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    for key, value in wanted.items():
        found = _value(value, there.get(key), (*path, key))
        if found is not None:
            return found
    return None


def _list(wanted: list[Any], there: list[Any], path: tuple[str, ...]) -> str | None:
    keys = LIST_KEYS.get(path[-1]) if path else None
    if keys is not None:
        return _keyed_list(wanted, there, path, keys)
    if len(wanted) != len(there):
        return f"{_shown_path(path)} has {len(there)} items, not {len(wanted)}"
    for index, (one, other) in enumerate(zip(wanted, there, strict=True)):
        found = _value(one, other, (*path[:-1], f"{path[-1] if path else ''}[{index}]"))
        if found is not None:
            return found
    return None


def _keyed_list(wanted: list[Any], there: list[Any], path: tuple[str, ...], keys: tuple[str, ...]) -> str | None:
    def identity(item: Any) -> tuple[str, ...]:
        return tuple(str(item.get(key, "TCP" if key == "protocol" else "")) for key in keys)

    by_identity = {identity(item): item for item in there}
    for item in wanted:
        name = identity(item)
        place = (*path[:-1], f"{path[-1]}[{'/'.join(name)}]")
        if name not in by_identity:
            return f"{_shown_path(place)} is missing"
        found = _map(item, by_identity[name], place)
        if found is not None:
            return found
    return None


def _is_same(wanted: Any, there: Any, path: tuple[str, ...]) -> bool:
    if wanted == there and isinstance(wanted, bool) == isinstance(there, bool):
        return True
    if there is None:
        return wanted in _EMPTY
    if path and (path[-1] in _AMOUNTS or (len(path) > 1 and path[-2] in _AMOUNTS_IN)):
        return quantity.is_same(wanted, there)
    return False


def _shown_path(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
