"""(pure) Reads and writes messages as the transport stores them, and the values in which a worker holds them."""

from __future__ import annotations

import base64
import json
from typing import Any


def split(value: bytes) -> tuple[str, bytes]:
    """Split a held value into the list that the message came from and the message.

    Raises:
        ValueError: it is not a held value.
    """
    length, _, rest = value.partition(b":")
    size = int(length)
    return rest[:size].decode(), rest[size:]


def read(message: bytes) -> dict[str, Any] | None:
    """Read a message as the transport stores it; `None` if it is not a message.

    It is read as plain JSON: kombu's own reader would convert tagged values into dates and other types, which may not
    be written back unchanged.
    """
    try:
        payload = json.loads(message.decode())
    except (ValueError, RecursionError):
        return None
    return payload if why_unreadable(payload) is None else None


def write(payload: dict[str, Any]) -> str:
    """Write a message as the transport stores it.

    Raises:
        RecursionError: the message is nested too deeply.
    """
    return json.dumps(payload)


def stored(message: Any) -> bytes:
    """Return a message of any of kombu's brokers in the form in which the Redis transport stores messages.

    Values that JSON does not know become texts; they are of no use to who reads the message afterwards.
    """
    body = message.body if message.body is not None else b""
    content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    properties = message.properties or {}
    payload = {
        "body": base64.b64encode(content).decode(),
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": message.headers or {},
        "properties": {
            **{name: properties[name] for name in ("reply_to", "correlation_id") if name in properties},
            "body_encoding": "base64",
            "delivery_info": {},
        },
    }
    return json.dumps(payload, default=str).encode()


def why_unreadable(payload: Any) -> str | None:
    """Return why kombu cannot make a message from this payload; `None` if it can.

    The body is not checked.
    """
    if not isinstance(payload, dict):
        return f"it is {_kind(payload)}, not a JSON object"
    properties = payload.get("properties")
    if not isinstance(properties, dict):
        return f"its properties are {_kind(properties)}, not an object"
    info = properties.get("delivery_info")
    for name, value, kind in (
        ("headers", payload.get("headers"), dict),
        ("body", payload.get("body"), str),
        ("delivery_info", info, dict),
        ("consumer_tag", info.get("consumer_tag") if isinstance(info, dict) else None, str),
        ("body_encoding", properties.get("body_encoding"), str),
    ):
        if value is not None and not isinstance(value, kind):
            return f"its {name} is {_kind(value)}, not {_kind(kind())}"
    if (properties.get("body_encoding") or "utf-8").lower() not in {"base64", "utf-8"}:
        return "its body_encoding is neither base64 nor utf-8"
    return None


def task_of(payload: dict[str, Any] | None) -> tuple[str, str]:
    """Return name and id of the task that a message calls; empty if they are missing or not valid.

    Version 2 of Celery's protocol has them in the headers, version 1 in the body.
    """
    for fields in ((payload or {}).get("headers"), payload and _first_protocol(payload)):
        if isinstance(fields, dict) and "task" in fields:
            name, task_id = fields["task"], fields.get("id")
            if isinstance(task_id, int) and not isinstance(task_id, bool):
                task_id = str(task_id)  # as the worker does
            return (name if isinstance(name, str) else "", task_id if isinstance(task_id, str) else "")
    return "", ""


def _first_protocol(payload: dict[str, Any]) -> Any:
    """Return the body if it is JSON."""
    if not str(payload.get("content-type")).endswith("json"):
        return None
    body = payload.get("body")
    try:
        if (payload.get("properties") or {}).get("body_encoding") == "base64":
            body = base64.b64decode(body or "")
        return json.loads(body or "null")
    except (ValueError, TypeError, RecursionError):
        return None


def _kind(value: Any) -> str:
    """Return the JSON name of a value's type."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
