"""(pure) How does a message of an AMQP broker carry the record of its deliveries?

RabbitMQ counts deliveries for quorum queues only, and with them the times when a worker gave a message back unused. So
the record travels in a header, as JSON text: `{"deliveries": n, "history": [...]}`. `outcomes` reads and extends it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

from celeriac.delivery.values.dead_entry import DeadEntry

RECORD: Final = "celeriac"
"""The header with the record."""
DEAD_PREFIX: Final = "celeriac.dead."
LATER_PREFIX: Final = "celeriac.later."
DELAYS_SECONDS: Final = (5, 10, 20, 40, 60)
"""Delays before a message is delivered again. There is a queue for each, as RabbitMQ looks at a queue's head only."""
LONGEST_RECORD: Final = 100_000
"""Characters of a record that are read; a longer one does not count. Every publisher can write the header."""
_KEPT: Final = (
    *(
        "delivery_mode",
        "priority",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "timestamp",
        "type",
        "app_id",
    ),
)
"""The properties that a copy of a message keeps."""


def dead_queue(queue: str) -> str:
    """Return the name of the queue that holds the dead letters of `queue`."""
    return DEAD_PREFIX + queue


def later_queue(queue: str, seconds: int) -> str:
    """Return the name of the queue in which messages wait for `seconds` before they return to `queue`."""
    return f"{LATER_PREFIX}{seconds}.{queue}"


def delay_seconds(deliveries: int) -> int:
    """Return the delay before a message with this many deliveries is delivered again."""
    return DELAYS_SECONDS[min(max(deliveries, 0), len(DELAYS_SECONDS) - 1)]


def record(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record in the form in which `outcomes` reads it; without a record if there is none that is valid."""
    text = headers.get(RECORD)
    if not isinstance(text, str) or len(text) > LONGEST_RECORD:
        return {"properties": {}}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return {"properties": {RECORD: value} if isinstance(value, dict) else {}}


def with_record(headers: Mapping[str, Any], payload: Mapping[str, Any], *, is_plain: bool) -> dict[str, Any]:
    """Return headers with the record of `payload`.

    Args:
        headers: the headers of the message that was received.
        payload: what `outcomes.given_back` returned.
        is_plain: the body was decompressed when it was received, so the header `compression` does not hold any more.
    """
    kept = {name: value for name, value in headers.items() if not (is_plain and name == "compression")}
    value = payload["properties"].get(RECORD)
    return {**kept, RECORD: json.dumps(value)} if value is not None else kept


def kept_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a received message that a copy of it has too."""
    return {name: properties[name] for name in _KEPT if properties.get(name) is not None}


def dead_payload(
    *, body: bytes, content_type: Any, content_encoding: Any, headers: Mapping[str, Any], properties: Mapping[str, Any]
) -> bytes:
    """Return a message in the form in which dead letters are kept, which is that of kombu's Redis transport.

    Values that JSON does not have, such as bytes and dates in a header, become text.
    """
    said = record(headers)["properties"]
    kept = {name: value for name, value in properties.items() if name in _KEPT and value is not None}
    payload = {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": content_encoding,
        "headers": {name: value for name, value in headers.items() if name != RECORD},
        "properties": {**kept, **said, "body_encoding": "base64", "delivery_info": {}},
    }
    return json.dumps(payload, default=str).encode()


def written(entry: DeadEntry, entry_id: str) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """Return body, headers and properties of the message that keeps a dead letter."""
    fields = {it.name: getattr(entry, it.name) for it in dataclasses.fields(entry)}
    fields["message"] = entry.message.decode()
    properties = {"message_id": entry_id, "delivery_mode": 2, "content_type": "application/json"}
    return json.dumps(fields).encode(), {}, properties


def read(body: bytes, *, queue: str) -> DeadEntry:
    """Read a dead letter; missing and invalid fields become empty, since any client may have written it."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    texts = (
        {name: it if isinstance(it, str) else json.dumps(it) for name, it in fields.items()}
        if isinstance(fields, dict)
        else {}
    )
    return DeadEntry.read(texts, queue=queue)


def published(payload: Mapping[str, Any]) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """Return body, headers and properties with which a dead letter is published again, without its record."""
    properties = payload["properties"]
    body = payload.get("body") or ""
    is_base64 = properties.get("body_encoding") == "base64"
    kept = {**kept_properties(properties), "content_type": payload.get("content-type")}
    kept["content_encoding"] = payload.get("content-encoding")
    return (
        base64.b64decode(body) if is_base64 else body.encode(),
        dict(payload.get("headers") or {}),
        {name: value for name, value in kept.items() if value is not None},
    )
