"""The key of a call: the same before and after its message, for every serialiser that an application may choose."""

from __future__ import annotations

import datetime as dt
import enum
import random
import uuid
from collections import namedtuple
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kombu import serialization

import celeriac
from celeriac.policies import values
from celeriac.policies.key import LONGEST_KEY, bounded, text_of
from celeriac.policies.values import Throttle


class Kind(str, enum.Enum):
    NIGHTLY = "nightly"


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    """A text of an application's own class."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"<{self!r}>"


class Amount(float):
    """A number of an application's own class."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "an amount"


Point = namedtuple("Point", "x y")

zones = st.sampled_from([None, dt.timezone.utc, dt.timezone(dt.timedelta(hours=-3, minutes=-30))])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**64),
    st.floats(),
    st.text(st.characters(exclude_categories=())),  # lone surrogates, too
    st.sampled_from([Kind.NIGHTLY, Level.HIGH, Name("ann"), Amount(1.5), b"", b"ann", b"\xff\x00", ""]),
    st.binary(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=zones),
    st.times(),
)
names = st.one_of(st.text(max_size=3), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
arguments = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.tuples(inner, inner).map(lambda it: Point(*it)),
        st.dictionaries(names, inner, max_size=3),
        st.frozensets(st.integers() | st.text(max_size=3), max_size=3),
        st.sets(st.integers() | st.text(max_size=3), max_size=3),
    ),
    max_leaves=8,
)

SERIALIZERS = ["json", "pickle", "yaml", "msgpack"]


def travelled(value: Any, serializer: str) -> Any:
    """A value as a worker gets it, or none where the serialiser refuses it."""
    try:
        kind, encoding, body = serialization.dumps(value, serializer)
        return serialization.loads(body, kind, encoding, accept={kind})
    except Exception:  # each serialiser has errors of its own
        return assume(condition=False)


@pytest.mark.parametrize("serializer", SERIALIZERS)
@settings(max_examples=settings.default.max_examples // 4)  # for each of four serializers
@given(value=arguments)
def test_a_key_is_the_same_before_and_after_its_message(serializer: str, value: Any) -> None:
    after = travelled([value], serializer)[0]
    for key in ("value", "{value}", "<{value!r}>", lambda value: (value,), lambda value: {"of": value}):
        policy = Throttle(key, seconds=1)
        assert policy.key_of(task, (value,), {}) == policy.key_of(task, (after,), {})


def task(value: Any) -> None:
    """A task's function."""


@given(value=arguments, seed=st.integers())
def test_neither_order_nor_the_kind_of_sequence_makes_another_key(value: Any, seed: int) -> None:
    assert text_of(value) == text_of(otherwise(value, random.Random(seed)))  # noqa: S311 - a repeatable order


def otherwise(value: Any, chance: random.Random) -> Any:
    """The same value, its dictionaries in another order, lists for tuples and the other way round."""
    if isinstance(value, dict):
        items = [(name, otherwise(it, chance)) for name, it in value.items()]
        return dict(chance.sample(items, len(items)))
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, tuple) else tuple)(otherwise(it, chance) for it in value)
    return value


@given(value=arguments)
def test_a_key_can_be_sent_by_every_client_and_is_bounded(value: Any) -> None:
    key = bounded(text_of(value))
    key.encode()
    assert len(key) <= LONGEST_KEY


def test_long_keys_that_differ_at_their_ends_stay_different() -> None:
    assert bounded("x" * 10_000 + "a") != bounded("x" * 10_000 + "b")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ann", "ann"),
        (42, "42"),
        (True, "True"),
        (None, "None"),
        (Kind.NIGHTLY, "nightly"),
        (Level.HIGH, "3"),
        (Name("ann"), "ann"),
        (Amount(1.5), "1.5"),
        (b"ann", "ann"),
        ((1, "a"), "[1, 'a']"),
        ({2: "b", "1": "a"}, "{'1': 'a', '2': 'b'}"),
        ({"b", "a"}, "['a', 'b']"),
        (Point(1, 2), "[1, 2]"),
        ("\ud800", "\\ud800"),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.date(2024, 2, 29), "2024-02-29"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_the_text_of_a_value(value: Any, text: str) -> None:
    assert bounded(text_of(value)) == text


class Nameless:
    """An object without a text of its own."""


circle: list[Any] = []
circle.append(circle)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("value", Nameless(), "Nameless has neither __str__ nor __repr__"),
        ("{value}", [Nameless()], "Nameless has neither __str__ nor __repr__"),
        (lambda value: value, Nameless(), "Nameless has neither"),
        ("value", circle, "cannot be made of this call"),
        ("{value[x]}", {}, "cannot be made of this call"),
        ("{value:.2f}", "a text", "cannot be made of this call"),
    ],
    ids=[
        "an object",
        "one in a list",
        "one of a callable",
        "a circle",
        "a missing entry",
        "a format that does not fit",
    ],
)
def test_what_has_no_text_that_lasts_is_refused(key: values.Key, value: Any, message: str) -> None:
    with pytest.raises(celeriac.PolicyError, match=message):
        Throttle(key, seconds=1).key_of(task, (value,), {})


@pytest.mark.parametrize("value", [{1: "a"}, {"1": "a"}], ids=["before JSON", "after JSON"])
def test_a_template_finds_a_number_in_a_dictionary_before_and_after_json(value: Any) -> None:
    assert Throttle("{value[1]}", seconds=1).key_of(task, (value,), {}) == "a"
