"""(pure) What is a pod template after a strategic merge patch? The same as after `kubectl patch`, without a server.

Maps are merged key by key, and null deletes. The lists named below are merged item by item, by a key of the item; every
other list is replaced. The keys are those of the `patchMergeKey` tags of Kubernetes' core/v1 types, except that ports
are the same only if their protocol is too, as in server-side apply.

`$patch: delete` in an item removes it. `$patch: replace` in a map, or as an item of its own in a list, replaces the
whole map or list. Inside an item of a list it is refused, because the API server would silently drop that item. The
other directives exist for computed patches, and are refused as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celeriac_operator.manifest import Draft

CONTAINER_LISTS: Mapping[str, tuple[str, ...]] = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
}
_CONTAINERS = ("containers", "initContainers")

# By the path from the pod template, list items left out.
MERGE_KEYS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    **{("spec", name): ("name",) for name in (*_CONTAINERS, "volumes", "imagePullSecrets", "resourceClaims")},
    ("spec", "schedulingGates"): ("name",),
    ("spec", "hostAliases"): ("ip",),
    ("spec", "topologySpreadConstraints"): ("topologyKey",),
    **{("spec", kind, name): keys for kind in _CONTAINERS for name, keys in CONTAINER_LISTS.items()},
}

# Values of absent keys that the API server fills in.
DEFAULTS: Mapping[str, str] = {"protocol": "TCP"}

PATCH = "$patch"


class PatchError(ValueError):
    """The patch cannot be merged; the message says where, and what to write instead."""


def merge(template: Draft, patch: Mapping[str, Any]) -> Draft:
    """Merge the patch into the pod template and return the result; the arguments are not changed.

    Raises:
        PatchError: the patch has an item without its key, a value of the wrong shape or an unknown directive.
    """
    return _merge_map(template, patch, ())


def _merge_map(base: Mapping[str, Any], patch: Mapping[str, Any], path: tuple[str, ...]) -> Draft:
    directive = _directive(patch, path)
    values = {key: value for key, value in patch.items() if key != PATCH}
    if directive == "delete":
        return {}
    merged: Draft = {} if directive == "replace" else dict(base)
    for key, value in values.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_value(merged.get(key), value, (*path, key))
    return merged


def _merge_value(base: Any, patch: Any, path: tuple[str, ...]) -> Any:
    keys = MERGE_KEYS.get(path)
    if keys is not None:
        if not isinstance(patch, list):
            raise PatchError(f"{_shown(path)} must be a list")
        return _merge_list(base if isinstance(base, list) else [], patch, path, keys)
    if isinstance(patch, Mapping):
        return _merge_map(base if isinstance(base, Mapping) else {}, patch, path)
    return patch


def _merge_list(base: list[Any], patch: list[Any], path: tuple[str, ...], keys: tuple[str, ...]) -> list[Any]:
    if any(item == {PATCH: "replace"} for item in patch):
        base = []
    merged = {_identity(item, keys, path): item for item in base}
    for item in _items(patch, path):
        identity = _identity(item, keys, path)
        directive = _directive(item, path)
        if directive == "replace":
            raise PatchError(
                f"an item of {_shown(path)} has $patch: replace, which is allowed only in a map or as a list "
                "item of its own; to replace this item, set the keys that it must lose to null"
            )
        if directive == "delete":
            merged.pop(identity, None)
        else:
            merged[identity] = _merge_map(merged.get(identity, {}), item, path)
    return list(merged.values())


def _items(patch: list[Any], path: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    for item in patch:
        if not isinstance(item, Mapping):
            raise PatchError(f"every item of {_shown(path)} must be a map")
        if item != {PATCH: "replace"}:
            yield item


def _identity(item: Mapping[str, Any], keys: tuple[str, ...], path: tuple[str, ...]) -> tuple[Any, ...]:
    identity = tuple(item.get(key, DEFAULTS.get(key)) for key in keys)
    if None in identity:
        missing = keys[identity.index(None)]
        raise PatchError(f"an item of {_shown(path)} has no {missing}, which identifies the item")
    if not all(isinstance(value, str | int) for value in identity):
        raise PatchError(f"in an item of {_shown(path)}, {' and '.join(keys)} must be plain values")
    return identity


def _directive(patch: Mapping[str, Any], path: tuple[str, ...]) -> str:
    for key in patch:
        if key.startswith("$") and key != PATCH:
            raise PatchError(f"{_shown(path)} has the directive {key}; only $patch is known here: delete or replace")
    directive = patch.get(PATCH, "merge")
    if directive not in ("merge", "replace", "delete"):
        raise PatchError(f"{_shown(path)} has $patch: {directive}; it can be delete, replace or merge")
    return str(directive)


def _shown(path: tuple[str, ...]) -> str:
    return ".".join(("template", *path))
