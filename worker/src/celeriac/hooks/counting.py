"""Which states do tasks reach, and how long do they take?

Seen from the worker's parent process, which hears of each step of a task whatever pool runs it: Celery tells it through
the request class that each task names (`Task.Request`). A thin layer over that class counts and passes on.

    received ─ started ─┬─ succeeded, failed, retried, ignored, rejected
       │                └─ timed_out (hard limit), lost (its process was killed), revoked (terminated)
       └─ revoked, expired

A run that a drain cuts short reaches none of the last states here: it is handed back and counted where it runs next.

The channel that a message came by is told first of all that the run has ended.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded, WorkerLostError

from celeriac import counts
from celeriac.hooks import requests
from celeriac.published import published_at

if TYPE_CHECKING:
    _Request = Any  # a Celery request class: celery.worker.request.Request or what a task names
else:
    _Request = object

STATES = (
    "received",
    "started",
    "succeeded",
    "failed",
    "retried",
    "ignored",
    "rejected",
    "timed_out",
    "lost",
    "revoked",
    "expired",
)
"""Every value of the label `state`."""


class CountedRequest(_Request):  # type: ignore[misc]  # a class of Celery's, chosen at run time
    """Counts what the parent process sees of a task, to be put before a Celery request class."""

    _has_ended = False
    _runtime: float | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Celery makes a subclass for each task, whose `on_success` is a faster one that does not call its base's.
        faster = cls.__dict__.get("on_success")
        if faster is not None:
            cls.on_success = _counted(faster)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        counts.TASKS.add(self.name, "started")
        super().on_accepted(pid, time_accepted)
        waited = waited_seconds(self.message.headers, self.eta, self.time_start)
        if waited is not None:
            counts.QUEUE_WAIT.observe(waited, queue_of(self.delivery_info))

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        requests.note_end(self)
        result = super().on_failure(exc_info, *args, **kwargs)
        if not getattr(self, "given_back", False):
            had_succeeded = getattr(self, "_had_succeeded", False)
            self._end("succeeded" if had_succeeded else state_of(requests.error_of(exc_info)))
        return result

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._end("timed_out")
        super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self._end("expired" if expired else "revoked")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _end(self, state: str) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        counts.TASKS.add(self.name, state)
        runtime = self._runtime
        if runtime is None and self.time_start is not None:
            runtime = max(0.0, time.time() - self.time_start)  # it was ended from outside
        if runtime is not None:
            counts.RUNTIME.observe(runtime, self.name)


def _counted(on_success: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's callback for a run that came to its end, with or without an exception."""

    @functools.wraps(on_success)
    def callback(self: Any, failed__retval__runtime: Any, **options: Any) -> Any:
        requests.note_end(self)
        failed, _, self._runtime = failed__retval__runtime
        if not failed:
            self._end("succeeded")
        return on_success(self, failed__retval__runtime, **options)

    return callback


def state_of(error: Any) -> str:
    """The state of a task whose run ended with this exception."""
    for kinds, state in (
        (Retry, "retried"),
        (Ignore, "ignored"),
        (Reject, "rejected"),
        (TimeLimitExceeded, "timed_out"),
        ((WorkerLostError, SystemExit, KeyboardInterrupt), "lost"),
    ):
        if isinstance(error, kinds):
            return state
    return "failed"


def waited_seconds(headers: Any, eta: datetime | None, started: float) -> float | None:
    """How long a message waited until its run started, at Unix time `started`; `None` where nobody knows.

    The producer's clock is another machine's: a difference that would be negative is none.
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


def install(app: Any) -> None:
    """Count all tasks of an application; once they are known, and before the consumer is made."""
    requests.put_before(app, CountedRequest)

    def received(request: Any, **_: Any) -> None:
        counts.TASKS.add(request.name, "received")
        if (request.delivery_info or {}).get("redelivered"):
            counts.REDELIVERIES.add()

    signals.task_received.connect(received, weak=False, dispatch_uid="celeriac-counts-received")
