from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac.exits import SENTENCE_LIMIT_BYTES, scrub, without_secrets, write_termination_message


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


@pytest.mark.parametrize(
    "place",
    [
        lambda secret: {"sentinel_kwargs": {"password": secret}},
        lambda secret: {"PASSWORD": secret, "username": "shop"},
        lambda secret: {"predefined_queues": {"emails": {"secret_access_key": secret, "access_key_id": secret}}},
        lambda secret: {
            "hosts": [f"redis://:{secret}@one", ("two", f"sentinel://shop:{secret}@two;redis://:{secret}@x")]
        },
        lambda secret: {"client": {"auth": (secret, secret), "ssl_password": secret}},
        lambda secret: {"a": [{"b": ({"api_token": secret},)}]},
        lambda secret: f"amqp://shop:{secret}@rabbit",
        lambda secret: [{"dsn": f"https://{secret}@sentry.example/1"}],
        lambda secret: {"redis_backend_credential_provider": secret},
    ],
)
def test_a_setting_is_shown_without_its_secrets_wherever_they_stand(place: Any) -> None:
    assert "sesame" not in repr(without_secrets(place("sesame")))


def test_a_setting_without_secrets_is_shown_as_it_is() -> None:
    value = {"visibility_timeout": 60, "global_keyprefix": "shop:", "list": [1, (2,)], "password": None}
    assert without_secrets(value) == value
