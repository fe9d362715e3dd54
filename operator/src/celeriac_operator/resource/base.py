"""What do all models of the resource share? The base class, validation rules and bounded types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

RULES = "x-kubernetes-validations"


class Model(BaseModel):
    """One object of the resource: camelCase in YAML, snake_case in Python, frozen.

    Unknown keys are dropped, as the API server does with an object that was stored under a newer CRD.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A CEL rule that the API server checks."""

    cel: str
    """The expression; `self` is the value that the rule is attached to."""
    message: str
    """The message for users: what is wrong and what to write instead."""
    field_path: str = ""
    """The field that the error names, relative to `self`; empty: the value itself."""
    subject: str = ""
    """An expression for the text that the message begins with, such as the argument that is refused; empty: none."""

    def manifest(self) -> JsonDict:
        """The rule as an entry of x-kubernetes-validations."""
        entry: JsonDict = {"rule": self.cel, "message": self.message}
        if self.subject:
            entry["messageExpression"] = f"{self.subject} + {_literal(f': {self.message}')}"
        return {**entry, "fieldPath": self.field_path} if self.field_path else entry


def _literal(text: str) -> str:
    """A text as CEL writes it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def rules(*entries: Rule) -> ConfigDict:
    """Model configuration with rules that concern several fields."""
    return ConfigDict(json_schema_extra={RULES: [entry.manifest() for entry in entries]})


def bound(*entries: Rule, schema: JsonDict | None = None, **limits: Any) -> Any:
    """A field's rules, its bounds (as pydantic's Field names them) and other schema keywords."""
    extra: JsonDict = dict(schema or {})
    if entries:
        extra[RULES] = [entry.manifest() for entry in entries]
    return Field(json_schema_extra=extra, **limits)


ATOMIC: JsonDict = {"x-kubernetes-list-type": "atomic"}
SET: JsonDict = {"x-kubernetes-list-type": "set"}

# The string has a bound because CEL's cost estimate depends on it, and the API server refuses a CRD that costs too
# much.
INT_OR_STRING: JsonDict = {"x-kubernetes-int-or-string": True, "maxLength": 64}


def map_by(key: str) -> JsonDict:
    """A list whose items are identified, and merged by server-side apply, by one of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


ObjectName = Annotated[
    str,
    bound(
        Rule(
            cel="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            message="must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.'",
        ),
        max_length=253,
    ),
]

DataKey = Annotated[
    str,
    bound(
        Rule(
            cel="self.matches('^[-._a-zA-Z0-9]+$')",
            message="must be a key of the object's data: letters, digits, '-', '_' and '.'",
        ),
        max_length=253,
    ),
]

DIGITS = "self.matches('^[0-9.]{1,20}([numkMGTPE]i?|[eE][-+]?[0-9]{1,2})?$')"
"""Bounds a quantity before anybody computes with it: in Kubernetes' grammar, 1e1000000 has a million digits."""

Quantity = Annotated[
    int | str,
    bound(
        Rule(
            cel=f"type(self) == int ? self >= 0 : {DIGITS} && isQuantity(self) && "
            "!quantity(self).isLessThan(quantity('0'))",
            message="must be a Kubernetes quantity that is not negative, for example 500m, 2 or 200Mi",
        ),
        schema=INT_OR_STRING,
    ),
]
