"""(pure) Reads values that Redis replied. A client may decode replies or leave them as bytes."""

from __future__ import annotations


def text(value: bytes | str, *, errors: str = "strict") -> str:
    """Return the text of one value.

    Args:
        value: what a redis-py client returned; bytes, or a string where the client decodes replies.
        errors: as for `bytes.decode`.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8, and `errors` is "strict".
    """
    return value.decode(errors=errors) if isinstance(value, bytes) else value


def content(value: bytes | str) -> bytes:
    """Return the bytes of one value."""
    return value.encode() if isinstance(value, str) else value
