"""Text that others have chosen is shown on one line, without effect on the terminal, and bounded."""

from __future__ import annotations

import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator import logs
from celeriac_operator.printable import printable
from celeriac_operator.settings import LogFormat


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis:6379", "redis:6379"),
        ("größer 象", "größer 象"),
        ("a\nforged\r\tline", r"a\nforged\r\tline"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("\ud800", r"\ud800"),
        (5, "5"),
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
    shown = printable("x" * 40_000)
    assert (len(shown), shown[-20:]) == (200, "xx… (40000 characters)"[-20:])


FORGED = "2026-01-01 00:00:00,000 INFO [shop/emails] forged"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\x0b", "\x1b[2K\r"])
@pytest.mark.parametrize("form", ["Text", "JSON"])
def test_a_record_is_one_line_whatever_is_in_it(end: str, form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:]
    try:
        logs.configure("INFO", form)
        log = logging.getLogger("celeriac_operator.test")
        log.warning("host %s", f"x{end}{FORGED}", extra={"pool": f"a/b{end}{FORGED}", "reason": f"r{end}{FORGED}"})
        error = ValueError(f"x{end}{FORGED}\x1b[2J" + "y" * 10_000)
        log.error("failed%s", end, exc_info=error)
    finally:
        logging.root.handlers[:] = before
    said = capsys.readouterr().err
    assert len(said) < 20_000
    for line in said.splitlines():
        assert line.isprintable(), line
        assert line.startswith(("{", "20", "    | ")), line
        assert not line.startswith(FORGED[:24]), line
