"""(pure) What the operator remembers of a Secret: that it is there, and digests. Never a value.

A digest is salted with the Secret's uid, which only those can know who may read the Secret: from the digest on a pod
nobody can guess a short password by trying. A Secret that is deleted and made anew therefore counts as changed.
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
    """What a value would be worth as a Sentry DSN."""

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
    """One Secret at one moment."""

    exists: bool
    """Whether it is there."""
    readable: bool = True
    """False when the operator may not read it; then nothing else is known."""
    resource_version: str = ""
    uid: str = ""
    owner_uid: str = ""
    """Uid of the object that controls it, empty if none."""
    owner: str = ""
    deleting: bool = False
    values: Mapping[str, Value] = field(default_factory=dict)
    """What is known of each key."""


ABSENT = Facts(exists=False)
UNREADABLE = Facts(exists=True, readable=False)


def examine(manifest: Mapping[str, Any]) -> Facts:
    """Keep what may be kept of a Secret as the API server hands it out."""
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
    """Stands for a value of the Secret with this uid."""
    return hashlib.sha256(f"{uid}:".encode() + value).hexdigest()[:16]


def combined_digest(parts: Iterable[str]) -> str:
    """One digest for several."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _value(uid: str, value: bytes) -> Value:
    return Value(digest=digest(uid, value), dsn=judge_dsn(value), is_webhook=is_webhook(value))


def judge_dsn(value: bytes) -> Dsn:
    """Whether Sentry's SDK could use it. Surrounding white space is forgiven: the worker strips it."""
    text = value.decode(errors="replace").strip()
    if not text:
        return Dsn.EMPTY
    return Dsn.WELL_FORMED if _DSN.fullmatch(text) else Dsn.MALFORMED


def is_webhook(value: bytes) -> bool:
    """Whether a worker could post to it. Surrounding white space is forgiven: the worker strips it."""
    text = value.decode(errors="replace").strip()
    return text.isascii() and _WEBHOOK.fullmatch(text) is not None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:  # the API server lets nothing else through
        return b""
