"""Which states do tasks reach, and how long do they wait and run?

Counted in the worker's parent process, which sees each step of a task whatever pool runs it. A task is `received`, then
`started`, then it reaches one of the last states. A run that the drain cuts short reaches none of them here.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Final

from celery import signals

from celeriac import counts
from celeriac.hooks import requests
from celeriac.policies.published import published_at

STATES: Final = ("received", "started", *requests.LAST_STATES)
"""Every value of the label `state`."""


class Counting(requests.Listener):
    """Counts the tasks of all requests, and redeliveries."""

    def install(self) -> None:
        """Count what is received; a request tells the rest."""
        signals.task_received.connect(_received, weak=False, dispatch_uid="celeriac-counts-received")

    def accepted(self, request: Any) -> None:
        """Count the start, and how long the message has waited."""
        counts.TASKS.add(request.name, "started")
        waited = waited_seconds(request.message.headers, request.eta, request.time_start)
        if waited is not None:
            counts.QUEUE_WAIT.observe(waited, queue_of(request.delivery_info))

    def reached(self, request: Any, state: str) -> None:
        """Count the last state, and how long the run took."""
        counts.TASKS.add(request.name, state)
        runtime = request.runtime_seconds
        if runtime is None and request.time_start is not None:
            runtime = max(0.0, time.time() - request.time_start)  # it was ended from outside
        if runtime is not None:
            counts.RUNTIME.observe(runtime, request.name)


def _received(request: Any, **_: Any) -> None:
    counts.TASKS.add(request.name, "received")
    if (request.delivery_info or {}).get("redelivered"):
        counts.REDELIVERIES.add()


def waited_seconds(headers: Any, eta: datetime | None, started: float) -> float | None:
    """How long a message waited until its run started, in seconds; `None` where its producer did not say when it sent.

    The producer's clock is another machine's: a negative difference counts as zero.

    Args:
        headers: the message's.
        eta: the time before which the task must not run.
        started: Unix time.
    """
    published = published_at(headers)
    if published is None:
        return None
    due = max(published, eta.timestamp()) if eta is not None else published
    return max(0.0, started - due)


def queue_of(delivery_info: Any) -> str:
    """The queue a message came from, as far as its delivery information says."""
    info = delivery_info or {}
    return str(info.get("routing_key") or info.get("exchange") or "-")
