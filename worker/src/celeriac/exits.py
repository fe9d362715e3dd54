"""How does a worker say why it ended?

Kubernetes restarts a worker that ends; what it cannot do is explain. So each way out has an exit code of its own
(those of sysexits.h where one fits), and before giving up one sentence goes into the container's termination log,
where the operator picks it up for the pool's condition. No secret may get there: it is shown to everybody who can
read the pool.
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
"""Kubernetes keeps 4096 bytes of a termination message: two lines of this."""

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|credential|auth|dsn|access_key|private_key", re.IGNORECASE)
"""What a setting is called that holds a secret."""
_USERINFO = re.compile(r"(?<=://)[^\s/]*@")


class Exit(enum.IntEnum):
    """Exit codes of `celeriac`."""

    OK = 0
    """Drained, or nothing was to be done."""
    FAILURE = 1
    """Something unexpected; the log has the traceback."""
    USAGE = 64
    """The command line is wrong."""
    BROKER = 69
    """The broker stayed out of reach until the retries were used up, or it refused the credentials."""
    RESULT_BACKEND = 74
    """The result of a task could not be stored until the retries were used up; its message was given back."""
    CONFIGURATION = 78
    """The document, the environment or the application cannot be used as they are."""


class GivingUpError(Exception):
    """The worker cannot go on; the text is the sentence for the person who has to act."""

    def __init__(self, sentence: str, code: Exit) -> None:
        super().__init__(sentence)
        self.code = code


def scrub(text: str, urls: Iterable[str | None] = ()) -> str:
    """Take passwords out: those of `urls` wherever they appear, and whatever looks like one in any other URL."""
    for url in urls:
        for secret in _secrets(url):
            text = text.replace(secret, "**")
    return _USERINFO.sub("**@", text)


def without_secrets(value: Any) -> Any:
    """A copy of a setting's value for logs: passwords in URLs, and what has the name of a secret, are left out."""
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
    """Leave one or two sentences, a line each, where Kubernetes looks; without such a file nothing is made or said."""
    with contextlib.suppress(OSError):
        # No O_CREAT: the kubelet makes the file, and outside Kubernetes none must appear in /dev.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as log:
            log.write(b"\n".join(it.encode(errors="replace")[:SENTENCE_LIMIT_BYTES] for it in sentences))


def _secrets(url: str | None) -> list[str]:
    if not url:
        return []
    found: list[str] = []
    for part in url.split(";"):  # several brokers to fail over between
        try:
            password = urlsplit(part).password
        except ValueError:
            continue
        if password and len(password) > 2:  # a shorter one would blacken ordinary words
            found += [password, unquote(password)]
    return found
