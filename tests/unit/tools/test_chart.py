"""The chart's files agree with each other and with what they are copied from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from localcluster.paths import CHECKOUT

CHART = CHECKOUT / "charts/celeriac"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = (CHART / "values.yaml").read_text()
# Kubernetes' own shapes, which a person fills in, and what Helm puts there.
OPEN = {"resources", "global"}


def keys_of_schema(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every value that the schema knows."""
    for name, part in schema.get("properties", {}).items():
        if name not in OPEN and "properties" in part:
            yield from keys_of_schema(part, f"{path}{name}.")
        elif name != "global":
            yield f"{path}{name}"


def keys_of_values(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every value that has a default."""
    for name, value in values.items():
        if name not in OPEN and isinstance(value, dict) and value:
            yield from keys_of_values(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_every_value_that_is_allowed_has_a_default_and_the_other_way_round():
    assert set(keys_of_schema(SCHEMA)) == set(keys_of_values(yaml.safe_load(VALUES)))


def test_every_object_of_the_schema_refuses_unknown_keys():
    def lenient(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for name, part in schema.get("properties", {}).items():
            yield from lenient(part, f"{path}.{name}")

    assert list(lenient(SCHEMA)) == []


def test_the_chart_carries_the_definition_as_generated():
    generated = CHECKOUT / "crds/celeriac.dev_celeryworkerpools.yaml"
    assert (CHART / "files/celeryworkerpools.yaml").read_text() == generated.read_text(), "run `make manifests`"


def test_the_chart_is_of_the_same_version_as_the_programs():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    operator = (CHECKOUT / "operator/pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in operator
