"""What is the JSON schema of a pool for editors? The CRD's schema in the dialect that YAML language servers read.

Editors know JSON Schema draft 7 and no CEL. Rules that a schema can express are translated; those that compare numbers
or look at several sections stay the API server's. Unknown fields are refused here, because they are misspelt fields
nearly always.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from celeriac_operator.generate import crd
from celeriac_operator.resource import pool
from celeriac_operator.resource.base import RULES
from celeriac_operator.resource.pod_patch import OPEN

Schema = dict[str, Any]

SCHEMA_ID = f"https://celeriac.dev/schemas/{pool.SINGULAR}-{pool.VERSION}.json"

_COPIED = (
    "description", "enum", "required", "default", "anyOf", "minLength", "maxLength", "minimum", "maximum", "maxItems",
    "maxProperties",
)  # fmt: skip
_DIRECTIVES: Schema = {"^[$]": {}}
"""Directives of a strategic merge patch, such as $patch."""

_MATCHES = re.compile(r"(!?)self\.matches\('((?:[^'\\]|\\.)*)'\)")
_BEGINS = re.compile(r"!self\.startsWith\('(\w+)'\)")
_ITEMS = re.compile(r"self\.all\(a, !a\.matches\('((?:[^'\\]|\\.)*)'\)\)")
_NOT_BOTH = re.compile(r"!\(has\(self\.(\w+)\) && has\(self\.(\w+)\)\)")
_EITHER = re.compile(r"has\(self\.(\w+)\) != has\(self\.(\w+)\)")
_ONE_OF = re.compile(r"\[(has\(self\.\w+\)(?:, has\(self\.\w+\))*)\]\.filter\(given, given\)\.size\(\) == 1")


def build() -> Schema:
    """The whole schema of a manifest."""
    schema = crd.build_schema()
    name = {
        "type": "string",
        "maxLength": pool.MAX_NAME_LENGTH,
        "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "description": "Name of the pool.",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": SCHEMA_ID,
        "title": pool.KIND,
        "description": schema["description"],
        "type": "object",
        "properties": {
            "apiVersion": {"const": f"{pool.GROUP}/{pool.VERSION}"},
            "kind": {"const": pool.KIND},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": _node(schema["properties"]["spec"]),
            "status": {"type": "object", "description": schema["properties"]["status"]["description"]},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


def _node(node: Schema) -> Schema:
    made = {key: node[key] for key in _COPIED if key in node}
    kinds = ["integer", "string"] if node.get("x-kubernetes-int-or-string") else node.get("type")
    if node.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
    made["type"] = [kinds, "null"] if node.get("nullable") else kinds
    if node.get("x-kubernetes-list-type") == "set":
        made["uniqueItems"] = True
    if "properties" in node:
        made["properties"] = {name: _node(child) for name, child in node["properties"].items()}
        # A container has hundreds of fields that are not listed here; a pod's spec is listed as a whole.
        if OPEN not in node or "containers" in node["properties"]:
            made["additionalProperties"] = False
            made |= {"patternProperties": _DIRECTIVES} if OPEN in node else {}
    if "items" in node:
        made["items"] = _node(node["items"])
    if "additionalProperties" in node:
        made["additionalProperties"] = _node(node["additionalProperties"])
    parts = [part for rule in node.get(RULES, []) for part in _rule(rule["rule"])]
    return {**made, "allOf": parts} if parts else made


def _rule(cel: str) -> Iterator[Schema]:
    """What a schema can say of a rule; nothing if it cannot say all of it, or the rule is of another form."""
    if all(_MATCHES.fullmatch(part) for part in cel.split(" && ")):
        for part in cel.split(" && "):
            found = _MATCHES.fullmatch(part)
            if found:
                yield _not(_pattern(found[2])) if found[1] else _pattern(found[2])
    elif found := _BEGINS.fullmatch(cel):
        yield _not({"pattern": f"^{found[1]}"})
    elif found := _ITEMS.fullmatch(cel):
        yield {"items": _not(_pattern(found[1]))}
    elif found := _NOT_BOTH.fullmatch(cel):
        yield _not({"required": [found[1], found[2]]})
    elif found := _EITHER.fullmatch(cel):
        yield {"oneOf": [{"required": [found[1]]}, {"required": [found[2]]}]}
    elif found := _ONE_OF.fullmatch(cel):
        yield {"oneOf": [{"required": [name]} for name in re.findall(r"self\.(\w+)", found[1])]}


def _pattern(literal: str) -> Schema:
    """A regular expression as CEL writes it in a string; JavaScript has no groups with flags."""
    text = re.sub(r"\\(.)", lambda found: found[1] if found[1] in "\\'" else found[0], literal)
    if "(?i:" in text:
        text = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in text.replace("(?i:", "(", 1))
    return {"pattern": text.replace("(?s:", "(?:")}


def _not(schema: Schema) -> Schema:
    return {"not": schema}
