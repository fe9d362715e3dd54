"""(pure) Reads a JSON document key by key: it checks every value, and reports keys that nobody read."""

from __future__ import annotations

import difflib
import json
import math
from typing import Any, Final, cast

DOCUMENT: Final = "CELERIAC_CONFIG"
"""The name of the document in messages: the variable that contains it."""


class ContractError(ValueError):
    """The document or the environment cannot be used; the text says which key is wrong and what is valid."""


class Section:
    """One JSON object. Each accessor reads and checks a key; `close` reports the keys that were not read."""

    def __init__(self, values: dict[str, Any], path: str, unknown: list[str]) -> None:
        self.path = path
        self._values = values
        self._asked: set[str] = set()
        self._unknown = unknown

    @classmethod
    def of(cls, value: object, path: str, unknown: list[str]) -> Section:
        if not isinstance(value, dict):
            where = path.rstrip(".") or DOCUMENT
            raise ContractError(f"{where} must be a JSON object, not {_shown(value)}")
        return cls(value, path, unknown)

    def has(self, key: str) -> bool:
        """Return whether the key has a value; `null` counts as absent, as in Kubernetes."""
        self._asked.add(key)
        return self._values.get(key) is not None

    def section(self, key: str, *, required: bool = False) -> Section:
        value = self._take(key, required=required)
        return self.of({} if value is None else value, f"{self.path}{key}.", self._unknown)

    # The accessors return Any: a required key is never None, but to express that each would need two signatures.
    def text(self, key: str, *, required: bool = False) -> Any:
        value = self._take(key, required=required)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise self._bad(key, value, "a non-empty string")
        return value

    def texts(self, key: str, *, non_empty_items: bool = False, unique: bool = False) -> tuple[str, ...] | None:
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._bad(key, value, "a list of strings")
        if non_empty_items and not all(value):
            raise self._bad(key, value, "a list of non-empty strings")
        if unique and len(set(value)) != len(value):
            raise self._bad(key, value, "a list without repetitions")
        return tuple(value) or None

    def integer(
        self, key: str, *, minimum: int | None = None, maximum: int | None = None, required: bool = False
    ) -> Any:
        value = self._take(key, required=required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._bad(key, value, "a whole number")
        return self._bounded(key, value, minimum, maximum)

    def number(
        self, key: str, *, minimum: float | None = None, maximum: float | None = None, required: bool = False
    ) -> Any:
        value = self._take(key, required=required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._bad(key, value, "a number")
        return float(self._bounded(key, value, minimum, maximum))

    def flag(self, key: str) -> bool | None:
        value = self._take(key)
        if value is None or isinstance(value, bool):
            return value
        raise self._bad(key, value, "true or false")

    def choice(self, key: str, allowed: tuple[str, ...]) -> Any:
        value = self._take(key)
        if value is None or value in allowed:
            return value
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise self._bad(key, value, f"one of {', '.join(allowed)}{hint}")

    def close(self) -> None:
        for key in self._values.keys() - self._asked:
            near = difflib.get_close_matches(key, self._asked, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self._unknown.append(f"{self.path}{key}{hint}")
        self._unknown.sort()

    def _take(self, key: str, *, required: bool = False) -> object:
        self._asked.add(key)
        value = cast("object", self._values.get(key))
        if value is None and required:
            raise ContractError(f"{self.path}{key} is missing from {DOCUMENT}")
        return value

    def _bounded(self, key: str, value: float, minimum: float | None, maximum: float | None) -> float:
        if minimum is not None and value < minimum:
            raise self._bad(key, value, f"at least {minimum:g}")
        if maximum is not None and value > maximum:
            raise self._bad(key, value, f"at most {maximum:g}")
        return value

    def _bad(self, key: str, value: object, wanted: str) -> ContractError:
        return ContractError(f"{self.path}{key} is {_shown(value)}, it must be {wanted}")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
