"""Generated messages: what the message protocol allows, and everything that it does not.

Each field of the envelope, the properties, the headers and the body, in both protocols, takes each of `VALUES`; bodies
take every serializer and compression; and some entries of the list are not messages at all.

Source: https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from kombu import compression, serialization
from kombu.exceptions import SerializerNotInstalled


class Absent:
    """The field is not there."""


@dataclass(frozen=True)
class Shape:
    """One generated message."""

    name: str
    raw: bytes
    line: str | None
    """The task's id and first argument, unless these are what is odd."""


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


VALUES: Final[dict[str, Any]] = {
    "absent": Absent,
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "negative": -5,
    "fraction": 0.5,
    "infinity": float("inf"),
    "nan": float("nan"),
    "huge number": 10**40,
    "empty text": "",
    "text": "x",
    "number as text": "5",
    "time as text": "2020-01-01T00:00:00+00:00",
    "impossible time": "9999-12-31T23:59:59-14:00",
    "far time": "9999-12-31T23:59:59",
    "first time": "0001-01-01T00:00:00+14:00",
    "long text": "x" * 100_000,
    "escapes": "\x1b]0;owned\x07\x1b[2J\r\nforged line",
    "odd unicode": "\u202e\u200b\U0001f9d1\u200d\U0001f4bb\x00é",
    "lone surrogate": "\ud800",
    "empty list": [],
    "list": [1],
    "list of texts": ["a", "b"],
    "list of null": [None, None],
    "three": [1, 2, 3],
    "empty object": {},
    "object": {"a": 1},
    "object of lists": {"a": [1], "b": [2]},
    "deep": nested(300),
    "too deep": nested(3000),
    "typed time": {"__type__": "datetime", "__value__": "2020-01-01T00:00:00"},
    "typed uuid": {"__type__": "uuid", "__value__": {"hex": "0123456789abcdef0123456789abcdef"}},
    "typed decimal": {"__type__": "decimal", "__value__": "1.5"},
    "typed wrongly": {"__type__": "datetime", "__value__": "x"},
    "typed unknown": {"__type__": "nothing", "__value__": 1},
}
HEADERS: Final = (
    *("lang", "task", "id", "root_id", "parent_id", "group", "group_index", "shadow", "eta", "expires", "retries"),
    *("timelimit", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers"),
    *("stamps", "compression", "meth", "headers", "hostname", "delivery_info", "args", "properties", "x-custom"),
    *("celeriac_published", "celeriac_call", "celeriac_conflicts"),
)
PROPERTIES: Final = (
    *("correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "body_encoding", "delivery_tag"),
    *("celeriac", "expiration", "type"),
)
DELIVERY_INFO: Final = ("exchange", "routing_key", "redelivered", "consumer_tag", "priority")
ENVELOPE: Final = ("body", "headers", "properties", "content-type", "content-encoding")
FIRST_PROTOCOL: Final = (
    *("task", "id", "args", "kwargs", "group", "retries", "eta", "expires", "utc", "callbacks", "errbacks", "chord"),
    *("timelimit", "taskset"),
)
EMBED: Final = ("callbacks", "errbacks", "chain", "chord")
TASKS: Final = ("received.note", "received.once", "received.limited")


def encoded(body: bytes | str) -> str:
    return base64.b64encode(body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body).decode()


def call(task_id: str, body: Any = None, *, task: str = TASKS[0]) -> dict[str, Any]:
    """A call as Celery sends it."""
    if body is None:
        body = [[task_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return {
        "body": encoded(dumps(body)),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": f"('{task_id}',)",
            "kwargsrepr": "{}",
            "origin": "gen1@host",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": "r",
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "body_encoding": "base64",
            "delivery_tag": "t",
        },
    }


def first_call(task_id: str) -> dict[str, Any]:
    """A call of the first protocol: all of it is in the body."""
    fields = {"task": TASKS[0], "id": task_id, "args": [task_id], "kwargs": {}, "retries": 0, "utc": True}
    message = call(task_id)
    return {**message, "headers": {}, "body": fields}


def with_field(message: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The message with one field changed, or taken out."""
    changed = copy.deepcopy(message)
    place = changed
    for name in path[:-1]:
        place = place[name]
    if value is Absent:
        place.pop(path[-1], None)
    else:
        place[path[-1]] = value
    return changed


def written(message: dict[str, Any]) -> bytes:
    """The message as it stands in a list."""
    if isinstance(message.get("body"), dict) and message["headers"] == {}:
        message = {**message, "body": encoded(dumps(message["body"]))}
    return dumps(message).encode("utf-8", "surrogatepass")


def dumps(value: Any) -> str:
    """JSON of any depth; Python's own writer gives up at some."""
    marks: list[str] = []

    def shallow(it: Any) -> Any:
        if it is VALUES["too deep"]:
            marks.append("[" * 3000 + "0" + "]" * 3000)
            return f"\0mark{len(marks) - 1}\0"
        if isinstance(it, dict):
            return {name: shallow(inner) for name, inner in it.items()}
        return [shallow(inner) for inner in it] if isinstance(it, list) else it

    text = json.dumps(shallow(value))
    for number, mark in enumerate(marks):
        text = text.replace(f'"\\u0000mark{number}\\u0000"', mark)
    return text


def fields() -> Iterator[tuple[str, bool, tuple[str, ...]]]:
    """Every field: its name, whether it is one of the first protocol, and where it is."""
    for name in ENVELOPE:
        yield f"envelope {name}", False, (name,)
    for name in PROPERTIES:
        yield f"property {name}", False, ("properties", name)
    for name in DELIVERY_INFO:
        yield f"delivery_info {name}", False, ("properties", "delivery_info", name)
    for name in HEADERS:
        yield f"header {name}", False, ("headers", name)
    for name in FIRST_PROTOCOL:
        yield f"first protocol {name}", True, ("body", name)


def by_field() -> Iterator[Shape]:
    """Each field with each value."""
    numbers = itertools.count()
    for (where, is_first, path), (kind, value) in itertools.product(fields(), VALUES.items()):
        task_id = f"field-{next(numbers)}"
        message = with_field(first_call(task_id) if is_first else call(task_id), path, value)
        yield Shape(f"{where}: {kind}", written(message), task_id)


def by_record() -> Iterator[Shape]:
    """The record of deliveries of a message that has used them up, with each value in each place."""
    numbers = itertools.count()
    for (kind, value), place in itertools.product(VALUES.items(), ("deliveries", "history", "at", "why", "event")):
        task_id = f"record-{next(numbers)}"
        message = call(task_id)
        event = {"at": 1.0, "where": "w", "why": "y"}
        record: dict[str, Any] = {"deliveries": 99, "history": [event]}
        if value is Absent:
            (event if place in event else record).pop(place, None)
        elif place in event:
            event[place] = value
        elif place == "event":
            record["history"] = [value]
        else:
            record[place] = value
        message["properties"]["celeriac"] = record
        yield Shape(f"record {place}: {kind}", written(message), task_id)


def by_body() -> Iterator[Shape]:
    """Each place in the decoded body with each value, each task, and bodies that cannot be decoded."""
    numbers = itertools.count()
    for kind, value in VALUES.items():
        if value is Absent:
            continue
        for place, body in {
            "whole": lambda _, value=value: value,
            "args": lambda _, value=value: [value, {}, {}],
            "kwargs": lambda task_id, value=value: [[task_id], value, {}],
            "embed": lambda task_id, value=value: [[task_id], {}, value],
            "one of four": lambda task_id, value=value: [[task_id], {}, {}, value],
            "argument": lambda task_id, value=value: [[task_id, value], {}, {}],
        }.items():
            task_id = f"body-{next(numbers)}"
            message = call(task_id, task=TASKS[next(numbers) % len(TASKS)])
            message["body"] = encoded(dumps(body(task_id)))
            yield Shape(f"body, {place}: {kind}", written(message), task_id)
        for name in EMBED:
            task_id = f"embed-{next(numbers)}"
            message = call(task_id, [[task_id], {}, {name: value}])
            yield Shape(f"embed {name}: {kind}", written(message), task_id)
    for kind, body in {
        "not base64": "%%%",
        "half base64": "YQ",
        "not utf-8": encoded(b"\xff\xfe\x00"),
        "not json": encoded("{not json"),
        "json cut": encoded("[[1], {}"),
        "deep": encoded("[" * 100_000),
        "digits": encoded("[[" + "1" * 5000 + "], {}, {}]"),
        "pickle of nothing": encoded(b"\x80\x04."),
        "empty": "",
        "byte order mark": encoded("\ufeff[[], {}, {}]"),
    }.items():
        for content_type, encoding in (
            ("application/json", "utf-8"),
            ("application/x-python-serialize", "binary"),
            ("application/x-yaml", "utf-8"),
            ("application/x-msgpack", "binary"),
            ("application/data", "binary"),
            ("text/plain", "utf-8"),
            ("application/json", "latin-1"),
            ("application/json", "no-such-encoding"),
            ("application/none", "utf-8"),
        ):
            task_id = f"bytes-{next(numbers)}"
            message = {**call(task_id), "body": body, "content-type": content_type, "content-encoding": encoding}
            yield Shape(f"body {kind} as {content_type}, {encoding}", written(message), task_id)


def by_serializer() -> Iterator[Shape]:
    """Every serializer and compression at hand, whole and spoilt, with and without base64."""
    numbers = itertools.count()
    ways = [None, *compression.encoders(), "application/x-none"]
    for serializer, way, spoilt in itertools.product(("json", "pickle", "yaml", "msgpack"), ways, (False, True)):
        task_id = f"serialized-{next(numbers)}"
        message = call(task_id)
        try:
            content_type, content_encoding, body = serialization.dumps([[task_id], {}, {}], serializer=serializer)
        except SerializerNotInstalled:
            content_type, content_encoding, body = f"application/x-{serializer}", "utf-8", "[[], {}, {}]"
        data = body.encode() if isinstance(body, str) else body
        if way is not None:
            message["headers"]["compression"] = way
            data = compression.compress(data, way)[0] if way != "application/x-none" else data
        message.update({"content-type": content_type, "content-encoding": content_encoding})
        message["body"] = encoded(data[: len(data) // 2] if spoilt else data)
        yield Shape(f"{serializer} {way} {'spoilt' if spoilt else 'whole'}", written(message), task_id)
    for first, encoding in itertools.product((False, True), (None, "", "utf-8", "UTF-8")):
        task_id = f"plain-{next(numbers)}"
        message = call(task_id)
        message["body"] = json.dumps(
            {"task": TASKS[0], "id": task_id, "args": [task_id], "kwargs": {}} if first else [[task_id], {}, {}]
        )
        message["headers"] = {} if first else message["headers"]
        message["properties"]["body_encoding"] = encoding
        yield Shape(f"plain body, body_encoding {encoding!r}, {first}", written(message), task_id)


def no_messages() -> Iterator[Shape]:
    """Entries of the list that are not messages."""
    for kind, value in VALUES.items():
        if value is not Absent:
            yield Shape(f"entry: {kind}", dumps({"v": value})[6:-1].encode("utf-8", "surrogatepass"), None)
    for kind, raw in {
        "nothing": b"",
        "nul": b"\x00\x01",
        "text": b"hello",
        "not utf-8": b'{"body": "\xe9"}',
        "utf-16": '{"a": 1}'.encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + written(call("bom")),
        "brackets": b"[" * 200_000,
        "objects": b'{"a":' * 100_000,
        "cut": written(call("cut"))[:-20],
        "digits": b'{"a": ' + b"1" * 5000 + b"}",
        "two": written(call("two")) * 2,
        "kombu's own": b'{"__type__": "bytes", "__value__": 5}',
        "compressed": zlib.compress(written(call("z"))),
    }.items():
        yield Shape(f"entry: {kind}", raw, None)


def pairs(chance: random.Random, count: int) -> Iterator[Shape]:
    """Two fields changed at once."""
    places = [it for it in fields() if not it[1]]
    for number in range(count):
        task_id = f"pair-{number}"
        message, said = call(task_id, task=chance.choice(TASKS)), []
        for where, _, path in chance.sample(places, 2):
            kind = chance.choice([it for it in VALUES if it != "too deep"])
            try:
                message = with_field(message, path, VALUES[kind])
            except (KeyError, TypeError, AttributeError):
                continue  # the other change has taken its place away
            said.append(f"{where}: {kind}")
        yield Shape(" and ".join(said), written(message), task_id)


def everything(chance: random.Random, *, count: int = 500) -> list[Shape]:
    """All shapes, and this number of pairs."""
    return [*by_field(), *by_record(), *by_body(), *by_serializer(), *no_messages(), *pairs(chance, count)]
