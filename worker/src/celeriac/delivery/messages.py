"""(pure) What stands in a message as the transport stores it, and in the value under which a worker holds it?"""

from __future__ import annotations

import json
from typing import Any


def split(value: bytes) -> tuple[str, bytes]:
    """Read a held value: the list that the message came from, and the message."""
    length, _, rest = value.partition(b":")
    size = int(length)
    return rest[:size].decode(), rest[size:]


def read(message: bytes) -> dict[str, Any] | None:
    """Read a message as the transport stores it; `None` when it is none.

    Plain JSON: kombu's own reader would turn tagged values into dates and the like, which need not survive a round.
    """
    try:
        payload = json.loads(message)
        return payload if isinstance(payload["properties"], dict) else None
    except (ValueError, TypeError, KeyError):
        return None


def write(payload: dict[str, Any]) -> str:
    """Write a message as the transport stores it."""
    return json.dumps(payload)
