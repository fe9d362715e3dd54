"""What others have written is read within bounds, whatever it is, in little time, and no error quotes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator import bounded
from celeriac_operator.bounded import Bounds, OutOfBoundsError, cut_depth, depth, read_body, read_json

BOUNDS = Bounds(size=2**20, depth=8, digits=40)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_a_document_within_the_bounds_is_read_as_it_is(value: object) -> None:
    document = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        document.decode()
    except UnicodeDecodeError:
        return
    assert read_json(document, Bounds(size=2**20, depth=30, digits=60)) == value


def level_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(level_of, inner), default=0)


@given(VALUES)
def test_the_depth_counts_brackets_outside_strings_only(value: object) -> None:
    assert depth(json.dumps(value).encode()) == level_of(value)


BEYOND: dict[str, bytes | Callable[[], bytes]] = {
    "nothing": b"",
    "blanks": b" " * 1000,
    "words": b"root:x:0:0 secret",
    "longer than the bound": lambda: b"[" + b" " * BOUNDS.size + b"]",
    "a gigabyte of digits in words": b'{"a": 1e999999999}',
    "arrays without end": lambda: b"[" * (BOUNDS.size - 1),
    "objects without end": lambda: b'{"a":' * (BOUNDS.size // 5),
    "one level too deep": b"[" * 9 + b"]" * 9,
    "quotes without end": lambda: b'"\\"' * (BOUNDS.size // 3),
    "backslashes": lambda: b'"' + b"\\" * (BOUNDS.size - 1),
    "400 digits": b'{"secret": ' + b"1" * 400 + b"}",
    "a million digits": lambda: b"1" * (BOUNDS.size - 1),
    "400 digits after the point": b"0." + b"1" * 400,
    "infinite": b"1e400",
    "minus infinite": b"-1e400",
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b"-Infinity",
    "NaN": b"[NaN]",
    "a key twice": b'{"secret": 1, "secret": 2}',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "two documents": b"{} {}",
    "a null byte": b"\x00",
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_the_bounds_is_refused_quickly_and_not_quoted(name: str) -> None:
    made = BEYOND[name]
    document = made if isinstance(made, bytes) else made()
    began = time.process_time()
    with pytest.raises(OutOfBoundsError) as refused:
        read_json(document, BOUNDS)
    assert time.process_time() - began < 1
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 80


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    with contextlib.suppress(OutOfBoundsError):
        read_json(document, BOUNDS)


@given(VALUES, st.integers(1, 5))
def test_what_is_nested_too_deeply_is_cut_and_the_rest_stays(value: object, levels: int) -> None:
    def expected(inner: object, level: int) -> object:
        if isinstance(inner, (dict, list)) and level == levels:
            return bounded.CUT
        if isinstance(inner, dict):
            return {key: expected(each, level + 1) for key, each in inner.items()}
        return [expected(each, level + 1) for each in inner] if isinstance(inner, list) else inner

    assert json.loads(cut_depth(json.dumps(value).encode(), levels)) == expected(value, 0)


class Endless:
    """A stream that never ends."""

    def __init__(self) -> None:
        self.sent = 0

    async def read(self, n: int = -1, /) -> bytes:
        self.sent += n
        return b" " * n


class Drip:
    """A stream that comes byte by byte."""

    def __init__(self, text: bytes) -> None:
        self.left = list(text)

    async def read(self, n: int = -1, /) -> bytes:
        return bytes([self.left.pop(0)]) if self.left and n else b""


def test_a_stream_without_end_is_given_up_at_the_bound() -> None:
    stream = Endless()
    with pytest.raises(OutOfBoundsError):
        asyncio.run(read_body(stream, 100_000))
    assert stream.sent <= 200_000


@pytest.mark.parametrize("size", [3, 4])
def test_a_stream_is_read_up_to_the_bound(size: int) -> None:
    assert asyncio.run(read_body(Drip(b"abc"), size)) == b"abc"


@pytest.mark.parametrize(
    ("value", "is_one"),
    [(0, True), (7, True), (2**53, True), (2**53 + 1, False), (-1, False), (True, False), (1.0, False), ("1", False)],
)
def test_which_values_are_counts(value: object, is_one: bool) -> None:
    assert bounded.is_count(value) == is_one


@pytest.mark.parametrize("opening", ['{"a":', "["])
@pytest.mark.parametrize("levels", [1, bounded.LEVELS, bounded.LEVELS + 1, 900, 1100, 9_000])
def test_an_object_of_the_api_is_read_however_deeply_it_is_nested(opening: str, levels: int) -> None:
    closing = "}" if opening.startswith("{") else "]"
    document = f'{{"metadata": {{"name": "x"}}, "spec": {opening * levels}1{closing * levels}, "after": [2]}}'
    found = bounded.read_manifest(document.encode())
    assert (found["metadata"], found["after"]) == ({"name": "x"}, [2])
    assert (bounded.CUT in json.dumps(found)) == (levels > bounded.LEVELS - 1)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("x" * 100, 100),
        ({"x" * 100: 1}, 100),
        ([1] * 100, 300),
        ([["x" * 50], {"a": "x" * 50}], 100),
    ],
)
def test_which_values_are_larger(value: object, size: int) -> None:
    assert bounded.is_larger(value, size)
    assert not bounded.is_larger(value, 10 * size)


def test_a_nested_value_is_measured_without_recursion() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    assert bounded.is_larger(value, 1000)
