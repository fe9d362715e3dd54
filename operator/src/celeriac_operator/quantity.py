"""(pure) Which amount does a Kubernetes quantity mean? `1000m` and `1` are the same amount.

The grammar is that of the resource.Quantity type in Kubernetes' apimachinery: a decimal number, then a binary suffix
(Ki), a decimal suffix (k, m) or an exponent (e3).
"""

from __future__ import annotations

import re
from decimal import Decimal

# Bounded, because Kubernetes' own grammar is not: 1e1000000 would be a number of a million digits. What Kubernetes can
# store has at most 19 digits before and 9 after the point.
_FORM = re.compile(
    r"([+-]?(?:[0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24}))(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?"
)

FIELDS = ("sizeLimit", "divisor", "storage")
"""Fields of a pod whose values are quantities."""

MAPS = ("limits", "requests")
"""Fields of a pod whose values are maps of quantities."""

_HUGE = re.compile(r"[eE][+-]?[0-9]{3,}")

_BINARY = {suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_DECIMAL = {
    suffix: Decimal(10) ** power
    for suffix, power in {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}.items()
}


def parse(text: str | int) -> Decimal:
    """The amount in the base unit of the resource: cores or bytes.

    Raises:
        ValueError: the text is not a quantity, or has more digits than any that Kubernetes can store.
    """
    match = _FORM.fullmatch(str(text))  # of an integer with thousands of digits, str raises ValueError itself
    if match is None:
        raise ValueError(f"not a quantity: {str(text)[:40]!r}")
    number, binary, decimal, exponent = match.groups()
    if binary:
        return Decimal(number) * _BINARY[binary]
    if decimal:
        return Decimal(number) * _DECIMAL[decimal]
    return Decimal(number) * Decimal(10) ** int(exponent or 0)


def is_huge(value: object) -> bool:
    """Whether computing with the value would take long, be it a quantity or not."""
    if isinstance(value, int):
        return value.bit_length() > 128
    return isinstance(value, str) and (len(value) > 64 or _HUGE.search(value) is not None)


def is_same(one: str | int, other: str | int) -> bool:
    """Whether both name the same amount; values that are not quantities are the same only if they are equal."""
    try:
        return parse(one) == parse(other)
    except ValueError:
        return one == other
