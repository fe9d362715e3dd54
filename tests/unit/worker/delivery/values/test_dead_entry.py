"""An entry of a dead-letter queue is written and read in one place, and bounded whatever was in the message."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from celeriac.delivery.values.dead_entry import DeadEntry, seconds


def an_entry(message: bytes, why: str = "because") -> DeadEntry:
    return DeadEntry.of(message, queue="q", why=why, where="ns/pod", now=1000.5)


def as_redis_returns(entry: DeadEntry) -> dict[bytes, Any]:
    written = [it if isinstance(it, bytes) else str(it).encode() for it in entry.written()]
    return dict(zip(written[::2], written[1::2], strict=True))


def test_what_is_written_is_read() -> None:
    message = json.dumps({"headers": {"task": "a.b", "id": "1"}, "properties": {}}).encode()
    entry = an_entry(message)
    assert (entry.task, entry.id) == ("a.b", "1")
    assert DeadEntry.read(as_redis_returns(entry), queue="other") == entry


def test_a_call_of_the_first_protocol_names_its_task_in_the_body() -> None:
    body = base64.b64encode(json.dumps({"task": "a.b", "id": "1"}).encode()).decode()
    properties = {"body_encoding": "base64"}
    payload = {"headers": {}, "properties": properties, "body": body, "content-type": "application/json"}
    entry = an_entry(json.dumps(payload).encode())
    assert (entry.task, entry.id) == ("a.b", "1")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[" * 200_000,
        b'{"a": ' + b"1" * 5000 + b"}",
        json.dumps({"headers": [1], "properties": {}}).encode(),
        json.dumps({"headers": {"task": [1], "id": {}}, "properties": {}}).encode(),
        json.dumps({"headers": {"task": "x" * 10**6, "id": "\ud800\x1b\n"}, "properties": {}}).encode(),
    ],
)
def test_any_message_makes_an_entry_that_is_bounded_and_can_be_sent(message: bytes) -> None:
    entry = an_entry(message, why="x" * 10**6)
    assert len(entry.task) <= 255
    assert len(entry.id) <= 255
    assert len(entry.why) <= 1000
    assert entry.message == message
    for part in entry.written():
        assert isinstance(part, bytes) or part.encode().isascii() or "…" in part
    assert entry.deliveries == 0


@pytest.mark.parametrize("value", ["x", "", None, [], "nan", "inf", -5, 1e300, 10**400, "1e400"])
def test_a_time_that_is_none_is_zero(value: Any) -> None:
    assert seconds(value) == 0


def test_what_anybody_has_written_is_read() -> None:
    entry = DeadEntry.read({b"at": b"soon", b"why": b"\xff\x1b", b"other": b"x"}, queue="q")
    assert (entry.queue, entry.at, entry.why, entry.message) == ("q", 0.0, "\\xff\x1b", b"")
