"""(pure) What did a worker leave unfinished? It says so in its container's last words, when a drain's time was up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from celeriac_operator import names
from celeriac_operator.decide.observed import Pod
from celeriac_operator.reasons import EventReason
from celeriac_operator.status import stalled
from celeriac_operator.status.compute import Event

BEGINNING: Final = "drain: "
"""A line of the worker library's last words begins so when tasks were cut short; why it gave up comes after it."""

FRESH_SECONDS: Final = 60.0
"""What was said longer ago has been told, by this operator or by the one before it."""


@dataclass(frozen=True, kw_only=True)
class Farewell:
    """The last words of one container about tasks that it did not finish."""

    pod: str
    words: str
    said_at: datetime


def read(pod: Pod) -> Farewell | None:
    """What the pod's worker said at its last end; None: nothing, or of something else."""
    for container in pod.containers:
        last = container.last
        if container.name != names.WORKER_CONTAINER or last is None or last.finished_at is None:
            continue
        for line in last.message.splitlines():
            if line.startswith(BEGINNING):
                words = stalled.last_words(line.removeprefix(BEGINNING))
                return Farewell(pod=pod.name, words=words, said_at=last.finished_at)
    return None


def events(said: Iterable[Farewell], now: datetime) -> Iterator[Event]:
    """What people are told of it."""
    for farewell in said:
        if (now - farewell.said_at).total_seconds() <= FRESH_SECONDS:
            yield Event(kind="Warning", reason=EventReason.CUT_SHORT, message=f"pod {farewell.pod}: {farewell.words}")
