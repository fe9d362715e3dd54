"""Reading messages as the transport stores them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celeriac.delivery.values import messages


def test_a_held_value_is_split_whatever_the_names_are() -> None:
    assert messages.split(b"6:a:b\x06\x163{}") == ("a:b\x06\x163", b"{}")


@pytest.mark.parametrize("value", [b"", b"x", b"x:y", b"\xff:y", b"2:\xff\xff"])
def test_a_value_that_no_worker_has_written_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int's and decode's own
        messages.split(value)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, "it is null, not a JSON object"),
        ([1], "it is an array, not a JSON object"),
        ({}, "its properties are null, not an object"),
        ({"properties": {}, "headers": [1]}, "its headers is an array, not an object"),
        ({"properties": {}, "body": 5}, "its body is a number, not a text"),
        ({"properties": {"delivery_info": "x"}}, "its delivery_info is a text, not an object"),
        ({"properties": {"delivery_info": {"consumer_tag": [1]}}}, "its consumer_tag is an array, not a text"),
        ({"properties": {"body_encoding": "rot13"}}, "its body_encoding is neither base64 nor utf-8"),
        ({"properties": {"body_encoding": True}}, "its body_encoding is a boolean, not a text"),
    ],
)
def test_what_kombu_cannot_read_is_named(payload: Any, why: str) -> None:
    assert messages.why_unreadable(payload) == why
    assert messages.read(json.dumps(payload).encode()) is None


@pytest.mark.parametrize(
    "properties", [{}, {"body_encoding": "UTF-8"}, {"body_encoding": "base64", "delivery_info": {}}]
)
def test_what_kombu_can_read_is_read(properties: dict[str, Any]) -> None:
    payload = {"properties": properties}
    assert messages.read(json.dumps(payload).encode()) == payload


@pytest.mark.parametrize("message", [b"", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}", b"1" * 5000])
def test_bytes_that_are_no_json_are_no_message(message: bytes) -> None:
    assert messages.read(message) is None
