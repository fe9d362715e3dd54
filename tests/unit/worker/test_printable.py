"""Text that others have written is shown on one line, without effect on the terminal, and bounded."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.printable import printable


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("shop.send", "shop.send"),
        ("größer 象 🧑", "größer 象 🧑"),
        ("\x1b]52;c;cm0=\x07", r"\x1b]52;c;cm0=\x07"),
        ("a\nforged\r\tline", r"a\nforged\r\tline"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("\ud800", r"\ud800"),
        (b"a\xff\x00", r"a\xff\x00"),
        (5, "5"),
        (None, "None"),
        ({"a": "\x1b"}, r"{'a': '\x1b'}"),
    ],
)
def test_what_is_shown(value: object, shown: str) -> None:
    assert printable(value) == shown


@given(st.text(st.characters(), max_size=300), st.integers(40, 120))
def test_any_text_is_one_line_that_can_be_printed_and_is_bounded(text: str, limit: int) -> None:
    shown = printable(text, limit=limit)
    assert len(shown) <= limit
    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(it) for it in shown}
    shown.encode()


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    shown = printable("x" * 1_000_000)
    assert len(shown) == 200
    assert shown.endswith("xx… (1000000 characters)")


def test_a_value_that_cannot_be_written_is_named_by_its_type() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert printable(nested) == "<list>"
    assert printable(10**5000) == "<int>"
