"""What an application prints is one record for each print, whatever pieces Python writes."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import signals
from celery.utils import log
from celery.utils.log import LoggingProxy
from hypothesis import given
from hypothesis import strategies as st

from celeriac import redirected


class Kept(logging.Handler):
    """Keeps the messages of all records."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def printed() -> Iterator[list[str]]:
    """The messages of the records of what is printed meanwhile."""
    handler, logger = Kept(), logging.getLogger("printed")
    logger.propagate, logger.handlers = False, [handler]
    with contextlib.redirect_stdout(redirected.Redirected(LoggingProxy(logger, logging.WARNING), sys.__stdout__)):
        yield handler.said


@pytest.mark.parametrize(
    ("say", "records"),
    [
        pytest.param(lambda: print("a", 3), ["a 3"], id="several values"),
        pytest.param(lambda: print("a", 3, sep="; "), ["a; 3"], id="with a separator"),
        pytest.param(lambda: print("a\nb"), ["a\nb"], id="a text of two lines"),
        pytest.param(lambda: print("a", "b", sep="\n"), ["a", "b"], id="values on lines of their own"),
        pytest.param(lambda: [print("a", end=""), print("b")], ["ab"], id="a line in two calls"),
        pytest.param(lambda: [print("a"), print(), print("b")], ["a", "b"], id="an empty line"),
        pytest.param(lambda: print("a", end="", flush=True), ["a"], id="without an end, but flushed"),
        pytest.param(lambda: print("  a"), ["  a"], id="white space before it"),
        pytest.param(lambda: sys.stdout.writelines(["a", "b\n", "c\n"]), ["ab", "c"], id="several strings"),
        pytest.param(lambda: print("é 😀", 3), ["é 😀 3"], id="any characters"),
    ],
)
def test_a_print_is_one_record(say: Callable[[], Any], records: list[str]) -> None:
    with printed() as said:
        say()
        assert said == records


def test_the_line_that_a_task_has_begun_is_logged_at_its_end() -> None:
    with printed() as said:
        print("half a line", end="")
        assert said == []
        signals.task_postrun.send(None)
        assert said == ["half a line"]


def test_threads_do_not_mix_their_lines() -> None:
    with printed() as said:
        print("ours ", end="")
        other = threading.Thread(target=lambda: print("theirs", 1))
        other.start()
        other.join()
        print("too")
    assert said == ["theirs 1", "ours too"]


def test_in_a_signal_handler_nothing_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    with printed() as said:
        print("ours ", end="")
        with monkeypatch.context() as interrupted:
            interrupted.setattr(log, "_in_sighandler", True)
            interrupted.setattr(sys, "__stderr__", io.StringIO())
            print("interrupted", 1)
            sys.stdout.flush()
        print("too")
    assert said == ["ours too"]


def test_a_line_without_end_is_cut() -> None:
    with printed() as said:
        for _ in range(3 * redirected.LONGEST_PIECE // 16):
            print("." * 16, end="")
    assert [len(text) for text in said] == [redirected.LONGEST_PIECE] * 3


@given(st.text(alphabet="ab\n "), st.lists(st.integers(0, 20), max_size=5))
def test_nothing_is_lost_and_nothing_doubled_however_a_text_is_written(text: str, cuts: list[int]) -> None:
    handler, logger = Kept(), logging.getLogger("written")
    logger.propagate, logger.handlers = False, [handler]
    stream = redirected.Redirected(LoggingProxy(logger, logging.WARNING), sys.__stdout__)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for place in range(len(places) - 1):
        stream.write(text[places[place] : places[place + 1]])
    stream.flush()
    assert "".join(handler.said).replace("\n", "") == text.replace("\n", "")
