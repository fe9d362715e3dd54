"""(pure) How is JSON read that others have written? Within bounds that are checked before it is parsed.

Workers, brokers and everyone who can write to them choose what the operator reads. An answer may be endless, gigabytes
long, nested a hundred thousand levels deep, or have numbers of a million digits: each of them would cost the operator
its memory or its time, and so the other pools theirs. `read_body` bounds what is received, `read_json` what is parsed;
the caller checks the result against its own schema with `is_count` and the like.

Errors never quote the document: a person who chooses a broker's address must not read another service's answers.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Protocol

# The rest after a quote that is never closed counts as one string, so each character is looked at once.
_STRINGS: Final = re.compile(rb'"(?>[^"\\]+|\\.)*+(?:"|\\?$)', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_OTHERS: Final = bytes(set(range(256)) - set(_STEPS))

LEVELS: Final = 64
"""Most levels of an object of the API that are read. Objects of Kubernetes itself have less than half of them."""

LARGEST_COUNT: Final = 2**53
"""Larger counts are refused: no broker holds as many messages, and a float cannot tell two of them apart."""


class OutOfBoundsError(ValueError):
    """A document is larger, deeper or different than its reader accepts; the message quotes nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a reader accepts."""

    size: int
    """Largest size in bytes."""
    depth: int = 8
    """Most levels of brackets."""
    digits: int = 40
    """Most characters of a number."""


class Stream(Protocol):
    """What is read in pieces, as aiohttp's and asyncio's streams are."""

    async def read(self, n: int = -1, /) -> bytes:
        """Return at most `n` bytes; none at the end."""
        ...


async def read_body(stream: Stream, size: int) -> bytes:
    """Read a stream to its end. The caller limits the time.

    Raises:
        OutOfBoundsError: it is longer than `size` bytes.
    """
    pieces, received = [], 0
    while piece := await stream.read(min(size + 1 - received, 2**16)):
        received += len(piece)
        if received > size:
            raise OutOfBoundsError(f"longer than {size} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def read_json(document: bytes, bounds: Bounds) -> Any:
    """Parse a JSON document.

    Raises:
        OutOfBoundsError: it exceeds the bounds, is not JSON in UTF-8 (RFC 8259, so NaN and Infinity are refused, and
            numbers that only a larger type can hold), or an object in it has a key twice.
    """
    if len(document) > bounds.size:
        raise OutOfBoundsError(f"longer than {bounds.size} bytes")
    if depth(document) > bounds.depth:
        raise OutOfBoundsError(f"nested more than {bounds.depth} levels deep")

    def number(kind: type[int] | type[float]) -> Any:
        def read(text: str) -> int | float:
            if len(text) > bounds.digits:
                raise OutOfBoundsError(f"a number of more than {bounds.digits} characters")
            value = kind(text)
            if not math.isfinite(value):
                raise OutOfBoundsError("a number that is too large")
            return value

        return read

    try:
        return json.loads(
            document.decode(),
            parse_int=number(int),
            parse_float=number(float),
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except OutOfBoundsError:
        raise
    except UnicodeDecodeError:
        raise OutOfBoundsError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise OutOfBoundsError("not JSON") from None


def _refuse_constant(_: str) -> Any:
    raise OutOfBoundsError("a number that is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise OutOfBoundsError("a key that occurs twice")
    return found


def depth(document: bytes) -> int:
    """Most levels of brackets that are open at the same time outside strings."""
    brackets = _STRINGS.sub(b"", document).translate(None, _OTHERS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


CUT: Final = "celeriac.dev/nested-too-deeply"
"""Stands for what `cut_depth` has cut off."""


def cut_depth(document: bytes, levels: int) -> bytes:
    """The document with a text, `CUT`, in place of each array and object below so many levels.

    It is for documents of the API server, which must be read whatever a user has put into one of their fields.
    """
    if depth(document) <= levels:
        return document
    kept, position, level = [], 0, 0
    for place in _outside_strings(document):
        level += _STEPS[document[place]]
        if document[place] in b"[{" and level == levels + 1:
            kept.append(document[position:place] + b'"' + CUT.encode() + b'"')
        elif document[place] in b"]}" and level == levels:
            position = place + 1
    return b"".join([*kept, document[position:]])


def _outside_strings(document: bytes) -> list[int]:
    """Positions of the brackets that are not part of a string."""
    blank = _STRINGS.sub(lambda match: b" " * len(match.group()), document)
    return [match.start() for match in _BRACKETS.finditer(blank)]


def is_count(value: object, *, largest: int = LARGEST_COUNT) -> bool:
    """Whether a parsed value is a whole number from 0 to the largest."""
    return type(value) is int and 0 <= value <= largest


def read_manifest(document: bytes) -> Any:
    """Parse what the API server has sent. What a user has nested too deeply in an object is cut off, not the object.

    Raises:
        ValueError: it is not JSON.
    """
    # Few brackets cannot be nested deeply, and counting them costs little.
    if document.count(b"{") + document.count(b"[") > LEVELS:
        document = cut_depth(document, LEVELS)
    return json.loads(document)


def is_larger(value: Any, size: int) -> bool:
    """Whether a parsed value takes more than about so many bytes as JSON. Stops as soon as that is known."""
    left, waiting = size, [value]
    while waiting and left >= 0:
        each = waiting.pop()
        left -= 4 + (len(each) if isinstance(each, str) else 0)
        if isinstance(each, dict):
            left -= sum(map(len, each))
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return left < 0
