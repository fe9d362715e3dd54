"""What does the reference page of the resource contain? It is built from the CRD's schema, so the two always agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from celeriac_operator.generate import crd
from celeriac_operator.resource import pool
from celeriac_operator.resource.base import RULES
from celeriac_operator.resource.pod_patch import OPEN

Schema = dict[str, Any]

HEAD = f"""\
# {pool.KIND}

`{pool.GROUP}/{pool.VERSION}` · plural `{pool.PLURAL}` · short `{", ".join(pool.SHORT_NAMES)}` · \
category `{", ".join(pool.CATEGORIES)}`

The same text is in the cluster: `kubectl explain cwp.spec`, `kubectl explain cwp.spec.timeLimits.softSeconds`.
If a field without a default is not set, the application's own Celery configuration applies.
"""


def build() -> str:
    """Build the page."""
    schema = crd.build_schema()
    parts = [HEAD]
    for name in ("spec", "status"):
        node = schema["properties"][name]
        parts += [f"## {name}\n", *_table(node, name), *_sections(node, name)]
    parts += [
        "## Rules\n",
        "The API server checks these rules in addition to the types and bounds above.\n",
        *_rule_list(schema),
    ]
    return "\n".join(parts) + "\n"


def _table(node: Schema, path: str) -> Iterator[str]:
    yield f"{node.get('description', '')}\n"
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    required = node.get("required", [])
    for name, child in node["properties"].items():
        default = "required" if name in required else _default(child)
        anchor = f"[{name}](#{_anchor(f'{path}.{name}')})" if _object(child) else f"`{name}`"
        yield f"| {anchor} | {_type(child)} | {default} | {_escape(child.get('description', ''))} |"
    yield ""


def _sections(node: Schema, path: str) -> Iterator[str]:
    for name, child in node["properties"].items():
        inner = _object(child)
        if inner is not None:
            inner_path = f"{path}.{name}" + ("[]" if child.get("type") == "array" else "")
            yield f"### {inner_path}\n"
            yield from _table({**inner, "description": child.get("description", "")}, inner_path)
            yield from _sections(inner, inner_path)


def _object(node: Schema) -> Schema | None:
    """The node, or its items, if it is an object with fields of our own; else None."""
    inner: Schema = node.get("items", {}) if node.get("type") == "array" else node
    return inner if "properties" in inner and OPEN not in inner else None


def _anchor(path: str) -> str:
    return "".join(character for character in path.lower() if character.isalnum())


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        kind = "integer or string"
    elif "enum" in node:
        kind = " ".join(f"`{value}`" for value in node["enum"])
    elif node.get("type") == "array":
        name = "set" if node.get("x-kubernetes-list-type") == "set" else "list"
        kind = f"{name} of {_type(node['items'])}s, at most {node['maxItems']}"
    elif "additionalProperties" in node:
        kind = f"map of {_type(node['additionalProperties'])}s, at most {node['maxProperties']}"
    else:
        kind = str(node["type"]) + _range(node)
    return kind


def _range(node: Schema) -> str:
    if "minimum" not in node:
        return ""
    return f", {node['minimum']} to {node['maximum']}" if "maximum" in node else f", at least {node['minimum']}"


def _default(node: Schema) -> str:
    if "default" not in node or isinstance(node["default"], dict):
        return ""
    return f"`{json.dumps(node['default'])}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _rule_list(node: Schema, path: str = "") -> Iterator[str]:
    for rule in node.get(RULES, []):
        yield f"- `{path or pool.KIND}`: {_escape(rule['message'])}"
    for name, child in node.get("properties", {}).items():
        yield from _rule_list(child, f"{path}.{name}" if path else name)
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(node.get(key), dict):
            yield from _rule_list(node[key], path + mark)
