"""What is a model's plain JSON schema? pydantic's, with references resolved and without titles, null and empty
defaults."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from celeriac_operator.resource.base import RULES

Schema = dict[str, Any]


def of(model: type[BaseModel]) -> Schema:
    """Build the plain schema of a model, with camelCase names."""
    raw = model.model_json_schema(by_alias=True)
    return _plain(raw, raw.pop("$defs", {}))


def _plain(node: Schema, definitions: Schema) -> Schema:
    node = _without_null(_resolve(node, definitions), definitions)
    node.pop("title", None)
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "properties" in node:
        node["properties"] = {name: _plain(child, definitions) for name, child in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            node[key] = _plain(node[key], definitions)
    _drop_silent_default(node)
    return node


def _resolve(node: Schema, definitions: Schema) -> Schema:
    """Replace a reference by its definition. Keys beside the reference override the definition's; rules add up."""
    node = copy.deepcopy(node)
    if "$ref" not in node:
        return node
    name = node.pop("$ref").removeprefix("#/$defs/")
    return _overlay(_resolve(definitions[name], definitions), node)


def _without_null(node: Schema, definitions: Schema) -> Schema:
    """Remove null from a field's types: an optional field may be absent, but not null."""
    choices = node.get("anyOf", [])
    if {"type": "null"} not in choices:
        return node
    node.pop("anyOf")
    choices.remove({"type": "null"})
    return _overlay(_resolve(choices[0] if len(choices) == 1 else {"anyOf": choices}, definitions), node)


def _overlay(base: Schema, nearer: Schema) -> Schema:
    seen = [*base.get(RULES, []), *nearer.get(RULES, [])]
    merged = {**base, **nearer}
    if seen:
        merged[RULES] = seen
    return merged


def _drop_silent_default(node: Schema) -> None:
    if isinstance(node.get("default"), dict):
        node["default"] = {name: value for name, value in node["default"].items() if value not in (None, [])}
    if node.get("default") in (None, []):
        node.pop("default", None)
