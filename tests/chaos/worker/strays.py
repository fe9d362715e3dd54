"""Malformed messages between good ones: each must become one dead letter, and no good message may."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.chaos.worker import journal

AT_ONCE: Final = 5
Message = dict[str, Any]


def _header(name: str, value: Any) -> Callable[[Message, str], bytes]:
    def change(message: Message, mark: str) -> bytes:
        message["headers"].update({"origin": mark, name: value})
        return json.dumps(message).encode()

    return change


def _field(name: str, value: Any) -> Callable[[Message, str], bytes]:
    def change(message: Message, mark: str) -> bytes:
        return json.dumps({**message, "mark": mark, name: value}).encode()

    return change


SHAPES: Final[Mapping[str, Callable[[Message, str], bytes]]] = {
    "no JSON": lambda _, mark: f"hello {mark}".encode(),
    "not UTF-8": lambda _, mark: f'{{"body": "é", "mark": "{mark}"}}'.encode("latin-1"),
    "brackets": lambda _, mark: b"[" * 200_000 + mark.encode(),
    "cut": lambda message, mark: json.dumps({"mark": mark, **message}).encode()[:-30],
    "an array": lambda _, mark: json.dumps([mark]).encode(),
    "no task": _header("task", None),
    "a task that is a number": _header("task", 5),
    "no id": _header("id", None),
    "limits that are text": _header("timelimit", "5"),
    "retries that are text": _header("retries", "many"),
    "an ETA that is no time": _header("eta", {"a": 1}),
    "no headers and no call": _field("headers", {}),
    "headers that are a list": _field("headers", [1]),
    "no properties": _field("properties", None),
    "an unknown content type": _field("content-type", "application/nothing"),
    "a body that is not base64": _field("body", "!!!"),
    "a body of four parts": _field("body", "W1tdLCB7fSwge30sIDFd"),
    "an empty body": _field("body", ""),
}


class Strays:
    """Writes malformed messages into a queue's list.

    Args:
        template: a message as a producer sends it.
        notes: the journal.
    """

    def __init__(self, template: Message, notes: Path) -> None:
        self.template = template
        self.notes = notes
        self._shapes = itertools.cycle(SHAPES)
        self._numbers = itertools.count(1)

    def push(self, client: Any, queue: str) -> None:
        """Write one more malformed message; the shapes take turns."""
        shape = next(self._shapes)
        mark = f"stray-{next(self._numbers)}."
        client.lpush(queue, SHAPES[shape](copy.deepcopy(self.template), mark))
        journal.note(self.notes, "stray", mark=mark, shape=shape)


def judge(strays: Mapping[str, str], dead: list[bytes]) -> Iterator[str]:
    """What is wrong with the dead letters, one sentence each.

    Args:
        strays: the mark of each malformed message that was written, and its shape.
        dead: the message in each dead letter.
    """
    found: list[str | None] = []
    for message in dead:
        marks = [mark for mark in strays if mark.encode() in message]
        found.append(marks[0] if marks else None)
        if not marks:
            yield f"a good message was dead-lettered: {message[:200]!r}"
    for mark, shape in strays.items():
        count = found.count(mark)
        if count != 1:
            yield f"the malformed message {mark} ({shape}) has {count} dead letters"
