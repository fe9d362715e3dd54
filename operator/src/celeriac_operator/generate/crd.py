"""What is the CustomResourceDefinition? Built from the pydantic models, as plain data.

Kubernetes requires a structural schema: no references, no alternatives, no titles, and no empty defaults. Everything
else in the models' JSON schema already has the form that the API server accepts.
"""

from __future__ import annotations

from typing import Any

from celeriac_operator.generate import schema
from celeriac_operator.resource import pool
from celeriac_operator.resource.base import RULES
from celeriac_operator.resource.pool import CeleryWorkerPool

Schema = dict[str, Any]


def build() -> Schema:
    """The whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{pool.PLURAL}.{pool.GROUP}",
            "labels": {"app.kubernetes.io/name": "celeriac", "app.kubernetes.io/part-of": "celeriac"},
        },
        "spec": {
            "group": pool.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": pool.KIND,
                "listKind": f"{pool.KIND}List",
                "plural": pool.PLURAL,
                "singular": pool.SINGULAR,
                "shortNames": list(pool.SHORT_NAMES),
                "categories": list(pool.CATEGORIES),
            },
            "versions": [
                {
                    "name": pool.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": build_schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "jsonPath": path,
                            "type": kind,
                            "description": description,
                            **({"priority": priority} if priority else {}),
                        }
                        for name, path, kind, priority, description in pool.COLUMNS
                    ],
                }
            ],
        },
    }


def build_schema() -> Schema:
    """The structural schema of a CeleryWorkerPool."""
    plain = schema.of(CeleryWorkerPool)
    described = {name: _structural(plain["properties"][name]) for name in ("spec", "status")}
    return {
        "description": plain["description"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{pool.GROUP}/{pool.VERSION}"},
            "kind": {"type": "string", "description": pool.KIND},
            "metadata": {"type": "object"},
            **described,
        },
        "required": ["spec"],
        "type": "object",
        RULES: plain[RULES],
    }


def _structural(node: Schema) -> Schema:
    """Convert what a structural schema expresses differently: integers, integers or strings, maps."""
    if node.get("x-kubernetes-int-or-string"):
        node = {**node, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    elif node.get("type") == "integer":
        node = {**node, "format": "int32" if node.get("maximum", 2**31) < 2**31 else "int64"}
    if "properties" in node:
        node = {**node, "properties": {name: _structural(child) for name, child in node["properties"].items()}}
    if "items" in node:
        node = {**node, "items": _structural(node["items"])}
    return _structural_map(node) if "additionalProperties" in node else node


def _structural_map(node: Schema) -> Schema:
    node = {key: value for key, value in node.items() if key != "propertyNames"}
    values = node.pop("additionalProperties")
    for bound in ("maxLength", "maxItems"):
        if bound in node:
            node["maxProperties"] = node.pop(bound)
    if values is True:
        return {**node, "x-kubernetes-preserve-unknown-fields": True}
    return {**node, "additionalProperties": _structural(values)}
