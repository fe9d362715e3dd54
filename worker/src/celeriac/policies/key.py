"""(pure) Which text is the key of a call?

The key is computed where the task is called. For `Exclusive` it is computed where the task runs, after the arguments
were sent in a message. Serialisers change arguments: JSON converts a tuple to a list, a string enumeration to a string,
and the keys of a dictionary to strings. So a key is not `str(value)`. The value is first converted to a plain form that
is the same before and after sending, and that does not depend on the order of a dictionary's keys.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

LONGEST_KEY: Final = 1_000
"""Characters; a longer key is replaced by its digest."""


def text_of(value: object) -> str:
    """Return the text of one value for use in a key.

    Raises:
        ValueError: the value has no stable text, so each call would have a different key.
        RecursionError: the value contains itself.
    """
    plain = plain_of(value)
    return plain if isinstance(plain, str) else str(plain)


def plain_of(value: Any) -> Any:
    """Return a value in the form that no serialiser changes: lists, texts, numbers, dictionaries with sorted keys."""
    if value is None or isinstance(value, bool):
        return value
    for kinds, make in _FORMS:
        if isinstance(value, kinds):
            return make(value)
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise ValueError(f"{kind.__qualname__} has neither __str__ nor __repr__, so its text differs in each process")
    return str(value)


def _plain_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return dict(sorted((_key_text(name), plain_of(it)) for name, it in value.items()))


_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),  # the value of an enumeration, the content of a subclass
    (int, int.__int__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), lambda value: bytes(value).decode(errors="backslashreplace")),
    (Mapping, _plain_mapping),
    ((list, tuple), lambda value: [plain_of(it) for it in value]),
    (Set, lambda value: sorted((plain_of(it) for it in value), key=str)),
)


def bounded(text: str) -> str:
    """Return a key that every client can send: without lone surrogates and with at most `LONGEST_KEY` characters."""
    clean = text.encode(errors="backslashreplace").decode()
    return clean if len(clean) <= LONGEST_KEY else f"sha256-{hashlib.sha256(clean.encode()).hexdigest()}"


class Template(string.Formatter):
    """Fills a template of parameters with the texts of their values."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format a value as `str.format` does, from its plain form if there is no format specification."""
        return super().format_field(value, format_spec) if format_spec else text_of(value)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Convert a value as `str.format` does (`!r`), from its plain form."""
        return value if conversion is None else super().convert_field(plain_of(value), conversion)

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """Follow a path (`order[items][0]`); sending may have changed a dictionary's number key to a string."""
        first, rest = _split(field_name)
        found = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            if is_attribute:
                found = getattr(found, name)
            elif isinstance(found, Mapping) and name not in found:
                found = found[str(name)]
            else:
                found = found[name]
        return found, first


_split = getattr(string, "_string").formatter_field_name_split  # noqa: B009 - as string.Formatter uses it


def _key_text(key: Any) -> str:
    """Return the text that JSON makes of a dictionary's key."""
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else text_of(key)
