"""Which states do tasks reach, and how long do they wait and run?

The worker's parent process counts them, because it sees each step of a task on every pool. A task is `received`, then
`started`, then it reaches one of the last states. A run that the drain cuts short does not reach a last state here.
The counts go to /metrics, and those of the last 15 minutes to /status.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Final

from celery import signals

from celeriac import counts
from celeriac.health.recent import End, Recent
from celeriac.hooks import requests
from celeriac.policies.published import published_at

STATES: Final = ("received", "started", *requests.LAST_STATES)
"""Every value of the label `state`."""


FAILED: Final = frozenset({"failed", "timed_out", "lost"})
"""The states of a task that failed."""


class Counting(requests.Listener):
    """Counts the tasks of all requests, and redeliveries.

    Args:
        recent: counts those that end, for /status.
    """

    def __init__(self, recent: Recent) -> None:
        self.recent = recent

    def install(self) -> None:
        """Count each received task. The later steps are reported by its request."""
        signals.task_received.connect(_received, weak=False, dispatch_uid="celeriac-counts-received")

    def accepted(self, request: Any) -> None:
        """Count the start, and observe how long the message has waited."""
        counts.TASKS.add(request.name, "started")
        waited = waited_seconds(request.message.headers, request.eta, request.time_start)
        if waited is not None:
            counts.QUEUE_WAIT.observe(waited, queue_of(request.delivery_info))

    def reached(self, request: Any, state: str) -> None:
        """Count the last state, and observe how long the run took."""
        counts.TASKS.add(request.name, state)
        if state in FAILED:
            self.recent.fail(request.name, request.id, request.failure_name, now=time.monotonic())
        elif state == "succeeded":
            self.recent.count(End.SUCCEEDED, now=time.monotonic())
        runtime = request.runtime_seconds
        if runtime is None and request.time_start is not None:
            runtime = max(0.0, time.time() - request.time_start)  # the run was ended from outside
        if runtime is not None:
            counts.RUNTIME.observe(runtime, request.name)


def _received(request: Any, **_: Any) -> None:
    counts.TASKS.add(request.name, "received")
    if (request.delivery_info or {}).get("redelivered"):
        counts.REDELIVERIES.add()


def waited_seconds(headers: Any, eta: datetime | None, started: float) -> float | None:
    """How long a message waited until its run started, in seconds; `None` if it does not say when it was published.

    The time of publishing comes from another machine's clock, so a negative difference counts as zero.

    Args:
        headers: the headers of the message.
        eta: the time before which the task must not run.
        started: the start of the run, as Unix time.
    """
    published = published_at(headers)
    if published is None:
        return None
    due = max(published, eta.timestamp()) if eta is not None else published
    return max(0.0, started - due)


def queue_of(delivery_info: Any) -> str:
    """The queue that a message came from, according to its delivery information; "-" if it does not say."""
    info = delivery_info or {}
    return str(info.get("routing_key") or info.get("exchange") or "-")
