"""How does a worker say why it ended?

Kubernetes restarts a worker that ends, but cannot explain why it ended. Therefore each reason has its own exit code
(from sysexits.h where one fits). Before the worker gives up, it writes one sentence into the container's termination
log, which the operator shows in the pool's condition. The sentence must not contain secrets: everybody who can read the
pool can see it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

SENTENCE_LIMIT_BYTES = 2047
"""Kubernetes keeps 4096 bytes of a termination message: two lines of this length."""

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|credential|auth|dsn|access_key|private_key", re.IGNORECASE)
"""Matches the name of a setting that holds a secret."""
_USERINFO = re.compile(r"(?<=://)[^\s/]*@")


class Exit(enum.IntEnum):
    """Exit codes of `celeriac`."""

    OK = 0
    """The worker has drained, or there was nothing to do."""
    FAILURE = 1
    """An unexpected error. The log has the traceback."""
    USAGE = 64
    """The command line is wrong."""
    BROKER = 69
    """The broker was unreachable in all retries, or it refused the credentials."""
    RESULT_BACKEND = 74
    """The result of a task could not be stored in any of the retries. Its message was handed back."""
    CONFIGURATION = 78
    """The document, the environment or the application is not valid."""


class GivingUpError(Exception):
    """The worker cannot continue. The text is written for the person who has to act."""

    def __init__(self, sentence: str, code: Exit) -> None:
        super().__init__(sentence)
        self.code = code


def scrub(text: str, urls: Iterable[str | None] = ()) -> str:
    """Remove passwords: those of `urls` wherever they appear, and everything before the `@` in any other URL."""
    for url in urls:
        for secret in _secrets(url):
            text = text.replace(secret, "**")
    return _USERINFO.sub("**@", text)


def without_secrets(value: Any) -> Any:
    """A copy of a setting's value for logs, without passwords in URLs and values with the name of a secret."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {
            key: "**" if _SECRET_NAME.search(str(key)) and it is not None else without_secrets(it)
            for key, it in value.items()
        }
    if isinstance(value, (list, set, frozenset)):
        return list(map(without_secrets, value))
    if isinstance(value, tuple):
        return tuple(map(without_secrets, value))
    return value


def write_termination_message(path: str, *sentences: str) -> None:
    """Write one or two sentences, a line each, into the termination log. If the file does not exist, do nothing."""
    with contextlib.suppress(OSError):
        # No O_CREAT: the kubelet creates the file, and outside Kubernetes no file must be created in /dev.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as log:
            log.write(b"\n".join(it.encode(errors="replace")[:SENTENCE_LIMIT_BYTES] for it in sentences))


def _secrets(url: str | None) -> list[str]:
    if not url:
        return []
    found: list[str] = []
    for part in url.split(";"):  # several brokers, for failover
        try:
            password = urlsplit(part).password
        except ValueError:
            continue
        if password and len(password) > 2:  # replacing a shorter one would hide ordinary words
            found += [password, unquote(password)]
    return found
