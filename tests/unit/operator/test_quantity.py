from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator import quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param("1000m", "1", id="a thousand milli is one"),
        pytest.param(2, "2", id="an integer is itself"),
        pytest.param("1Gi", str(2**30), id="Gi is a power of two"),
        pytest.param("1G", "1000000000", id="G is a power of ten"),
        pytest.param("0.5", "0.5", id="a fraction"),
        pytest.param(".5", "0.5", id="a fraction without a leading zero"),
        pytest.param("1e3", "1000", id="an exponent"),
        pytest.param("2E", str(2 * 10**18), id="E is a suffix, not an exponent"),
        pytest.param("-1", "-1", id="a sign"),
        pytest.param("100n", "1E-7", id="nano"),
    ],
)
def test_parses(text: str | int, amount: str) -> None:
    assert quantity.parse(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1gi", "1e", "--1", "1.2.3", "Ki"])
def test_refuses_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "1e1000000",
        "1e-1000000",
        "1E100",
        "1" * 25,
        "." + "1" * 25,
        "1" * 1_000_000,
        "1e" + "9" * 5000,
        10**30,
        10**5000,
    ],
    ids=lambda value: str(value)[:12] if isinstance(value, str) else "a large number",
)
def test_refuses_numbers_that_would_fill_the_memory(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"^not a quantity|limit"):
        quantity.parse(text)
    assert quantity.is_same(text, text)


DIGITS = st.text("0123456789", max_size=40)


@given(st.sampled_from(["", "+", "-"]), DIGITS, st.sampled_from(["", "."]), DIGITS, st.data())
def test_every_number_of_the_grammar_is_small_or_refused(
    sign: str, whole: str, point: str, part: str, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(["", "Ki", "Ei", "n", "m", "k", "E", "e", "E+", "e-"]))
    exponent = data.draw(st.text("0123456789", min_size=1, max_size=8)) if suffix[:1] in ("e", "E") else ""
    text = f"{sign}{whole}{point}{part}{suffix}{exponent}"
    try:
        amount = quantity.parse(text)
    except ValueError:
        return
    assert abs(amount) < Decimal(10) ** 130
    assert len(text) <= 60


@given(st.integers(min_value=0, max_value=10**9))
def test_milli_and_whole_are_the_same_amount(cores: int) -> None:
    assert quantity.is_same(f"{cores * 1000}m", cores)
    assert quantity.is_same(f"{cores}Mi", f"{cores * 1024}Ki")


@given(st.text(max_size=8), st.text(max_size=8))
def test_texts_that_are_no_quantities_are_the_same_only_when_equal(one: str, other: str) -> None:
    assert quantity.is_same(one, one)
    assert quantity.is_same(one, other) == quantity.is_same(other, one)
