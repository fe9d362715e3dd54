"""The application of the fault campaign: every step of every task is noted outside Redis."""

from __future__ import annotations

import functools
import json
import os
import time
from typing import Any

from celery import Celery, signals
from tests.chaos.worker import journal

import celeriac

app = Celery("chaos", set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options=json.loads(os.environ.get("CHAOS_BROKER_OPTIONS", "{}")),
)
task = functools.partial(app.task, bind=True, base=celeriac.Task)
THROTTLE_SECONDS = 2.0
LOCK_SECONDS = 8.0


def note(running: Any, what: str, **more: Any) -> None:
    request = running.request
    journal.note(
        os.environ["CHAOS_JOURNAL"],
        what,
        number=request.kwargs["number"],
        delivery=request.properties["delivery_tag"],
        worker=os.environ["CHAOS_WORKER"],
        pid=os.getpid(),
        **more,
    )


@signals.task_prerun.connect(weak=False)
def taken(task: Any, **_: Any) -> None:
    note(task, "taken")


@signals.task_postrun.connect(weak=False)
def left(task: Any, **_: Any) -> None:
    note(task, "left")


def run(running: celeriac.Task, key: str, seconds: float) -> None:
    note(running, "began", key=key, fence=running.fence)
    time.sleep(seconds)
    note(running, "done", key=key, fence=running.fence)


@task
def plain(self: celeriac.Task, number: int, key: str, seconds: float) -> None:
    run(self, key, seconds)


@task(policy=celeriac.Throttle(key="key", seconds=THROTTLE_SECONDS))
def throttled(self: celeriac.Task, number: int, key: str, seconds: float) -> None:
    run(self, key, seconds)


@task(policy=celeriac.Exclusive(key="key", backoff_seconds=(0.1, 1), lock_seconds=LOCK_SECONDS))
def exclusive(self: celeriac.Task, number: int, key: str, seconds: float) -> None:
    run(self, key, seconds)


@task(policy=celeriac.Exclusive(key="key", on_conflict="wait", wait_seconds=2, lock_seconds=LOCK_SECONDS))
def waiting(self: celeriac.Task, number: int, key: str, seconds: float) -> None:
    run(self, key, seconds)
