"""(pure) What did a container say before it ended?

The kubelet keeps its termination message, or its last log lines. A worker whose drain ran out of time names the tasks
that it did not finish there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from celeriac_operator import names
from celeriac_operator.decide.observed import Pod

BEGINNING: Final = "drain: "
"""Beginning of the line with which a worker names the tasks that its drain cut short. A reason to give up follows
it."""

SHOWN_CHARACTERS: Final = 500
"""Length that fits a condition."""

# User names too, because the key of a Sentry DSN stands in that place. Up to the last @, since a password may contain
# one.
_SECRETS = re.compile(r"(?<=://)(?:[^\s/@]*:\S*|[^\s/@]+)(?=@)|(?<=[?&]password=)[^\s&]+")


@dataclass(frozen=True, kw_only=True)
class LastWords:
    """What one container said about tasks that it did not finish."""

    pod: str
    text: str
    said_at: datetime


def read(pod: Pod) -> LastWords | None:
    """The last words of the pod's worker about unfinished tasks; None: there are none."""
    for container in pod.containers:
        last = container.last
        if container.name != names.WORKER_CONTAINER or last is None or last.finished_at is None:
            continue
        for line in last.message.splitlines():
            if line.startswith(BEGINNING):
                return LastWords(pod=pod.name, text=excerpt(line.removeprefix(BEGINNING)), said_at=last.finished_at)
    return None


def excerpt(text: str) -> str:
    """The last line that is not blank, without passwords, cut to a length that fits a condition."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = _SECRETS.sub("**", lines[-1]) if lines else ""
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]}…"
