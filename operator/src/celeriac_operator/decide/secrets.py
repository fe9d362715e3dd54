"""(pure) What does the operator remember of a Secret? That it exists, and digests of its values; never a value.

A digest is salted with the Secret's uid, which is known only to those who may read the Secret. So nobody can find a
short password by trying values against the digest on a pod. A Secret that is deleted and created again counts as
changed.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_DSN = re.compile(r"https?://[^\s/@:]+(:[^\s/@]+)?@[^\s/@]+(/\S*)?/[0-9]+")


_WEBHOOK = re.compile(r"https?://[^\s/@]+/\S+")


class Dsn(enum.Enum):
    """Whether a value is a Sentry DSN."""

    WELL_FORMED = "well-formed"
    EMPTY = "empty"
    MALFORMED = "malformed"


@dataclass(frozen=True, kw_only=True)
class Value:
    """One key of a Secret."""

    digest: str
    dsn: Dsn
    is_webhook: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about one Secret at one moment."""

    exists: bool
    """Whether it exists."""
    readable: bool = True
    """False: the operator may not read it, and nothing else is known."""
    resource_version: str = ""
    uid: str = ""
    owner_uid: str = ""
    """Uid of the object that controls it; empty: none."""
    owner: str = ""
    deleting: bool = False
    values: Mapping[str, Value] = field(default_factory=dict)
    """Facts about the value of each key."""


ABSENT = Facts(exists=False)
UNREADABLE = Facts(exists=True, readable=False)


def examine(manifest: Mapping[str, Any]) -> Facts:
    """Read the facts from a Secret."""
    metadata = manifest["metadata"]
    owner = next((reference for reference in metadata.get("ownerReferences", []) if reference.get("controller")), None)
    return Facts(
        exists=True,
        resource_version=metadata.get("resourceVersion", ""),
        uid=metadata["uid"],
        owner_uid=owner["uid"] if owner else "",
        owner=f"{owner['kind']} {owner['name']}" if owner else "",
        deleting="deletionTimestamp" in metadata,
        values={key: _value(metadata["uid"], _decoded(text)) for key, text in (manifest.get("data") or {}).items()},
    )


def digest(uid: str, value: bytes) -> str:
    """Digest of a value, salted with the Secret's uid."""
    return hashlib.sha256(f"{uid}:".encode() + value).hexdigest()[:16]


def combined_digest(parts: Iterable[str]) -> str:
    """One digest for several."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _value(uid: str, value: bytes) -> Value:
    return Value(digest=digest(uid, value), dsn=judge_dsn(value), is_webhook=is_webhook(value))


def judge_dsn(value: bytes) -> Dsn:
    """Whether Sentry's SDK can use the value. Surrounding white space is accepted: the worker strips it."""
    text = value.decode(errors="replace").strip()
    if not text:
        return Dsn.EMPTY
    return Dsn.WELL_FORMED if _DSN.fullmatch(text) else Dsn.MALFORMED


def is_webhook(value: bytes) -> bool:
    """Whether a worker can post to the value. Surrounding white space is accepted: the worker strips it."""
    text = value.decode(errors="replace").strip()
    return text.isascii() and _WEBHOOK.fullmatch(text) is not None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:  # cannot happen: the API server accepts valid base64 only
        return b""
