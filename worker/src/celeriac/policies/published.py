"""When was a message published?

Celery's messages do not contain this time. If this library is loaded (in a Celeriac worker, or in an application whose
tasks are `celeriac.Task`), it adds a header, and so a worker knows how long a message has waited. Messages of other
producers do not have the header, and their waiting time is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

HEADER: Final = "celeriac_published"
"""Unix time in seconds, by the clock of the machine that published the message."""


def stamp(headers: Any = None, **_: Any) -> None:
    """Add the time to a message before it is published; a receiver of the signal `before_task_publish`."""
    if isinstance(headers, dict):
        headers[HEADER] = time.time()  # always overwrite: a retry has the headers of its first message


def install() -> None:
    """Stamp all messages that this process, and those it forks, publish from now on."""
    from celery import signals

    signals.before_task_publish.connect(stamp, weak=False, dispatch_uid="celeriac-published")


def published_at(headers: Any) -> float | None:
    """Return when a message with these headers was published; `None` if they do not contain the time."""
    value = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
