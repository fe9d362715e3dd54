from __future__ import annotations

from pathlib import Path

import pytest

from celeriac.exits import SENTENCE_LIMIT_BYTES, scrub, write_termination_message


@pytest.mark.parametrize(
    ("text", "urls", "shown"),
    [
        pytest.param("redis://u:pw@h/0 is away", (), "redis://**@h/0 is away", id="a password in any URL"),
        pytest.param("redis://:p@ss@h/0", (), "redis://**@h/0", id="one with an at sign in it"),
        pytest.param("WRONGPASS s3cret", ("redis://:s3cret@h",), "WRONGPASS **", id="a known one standing alone"),
        pytest.param("p%40ss or p@ss", ("redis://:p%40ss@h",), "** or **", id="a known one, quoted or not"),
        pytest.param("a b", ("redis://:a@h",), "a b", id="too short to be told from a word"),
        pytest.param("nothing to hide", (None, "", "http://[broken"), "nothing to hide", id="no password at all"),
        pytest.param("one two2", ("redis://:one1@a;redis://:two2@b",), "one **", id="several brokers in one URL"),
    ],
)
def test_passwords_are_taken_out_of(text: str, urls: tuple[str | None, ...], shown: str) -> None:
    assert scrub(text, urls) == shown


def test_the_last_words_replace_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    file.write_text("something long that was there before")
    write_termination_message(str(file), "why")
    assert file.read_text() == "why"


def test_the_last_words_are_not_too_long_for_kubernetes(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    file.touch()
    write_termination_message(str(file), "ä" * 5000)
    assert len(file.read_bytes()) == SENTENCE_LIMIT_BYTES


def test_the_last_of_two_sentences_is_there_however_long_the_first_is(tmp_path: Path) -> None:
    file = tmp_path / "termination-log"
    file.touch()
    write_termination_message(str(file), "x" * 5000, "why")
    assert file.read_text() == "x" * SENTENCE_LIMIT_BYTES + "\nwhy"


def test_outside_kubernetes_no_file_appears(tmp_path: Path) -> None:
    write_termination_message(str(tmp_path / "termination-log"), "why")
    assert list(tmp_path.iterdir()) == []
