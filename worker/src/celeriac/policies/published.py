"""When was a message published?

Celery's messages do not say. Where this library is loaded (a worker of Celeriac, or an application whose tasks are
`celeriac.Task`) a header does, and so a worker knows how long a message has waited. Messages of other producers have
none, and their wait stays unknown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

HEADER: Final = "celeriac_published"
"""Unix time, in seconds, of the machine that published."""


def stamp(headers: Any = None, **_: Any) -> None:
    """Write the time into a message that is about to be published; a receiver of `before_task_publish`."""
    if isinstance(headers, dict):
        headers[HEADER] = time.time()  # always anew: a retry brings the headers of its first message along


def install() -> None:
    """Stamp all messages that this process, and those it forks, publish from now on."""
    from celery import signals

    signals.before_task_publish.connect(stamp, weak=False, dispatch_uid="celeriac-published")


def published_at(headers: Any) -> float | None:
    """When a message with these headers was published; `None` where they do not say."""
    value = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
