"""Tasks that reach every state, and tasks that use policies and locks: what /metrics is to show."""

from __future__ import annotations

import functools
import os
import signal
import time
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from redis import Redis

import celeriac

app = Celery("counted", set_as_current=False)
task = functools.partial(app.task, base=celeriac.Task)


@task(name="fine")
def fine() -> str:
    return "fine"


@task(name="fails")
def fails() -> None:
    raise ValueError("it broke")


@task(name="retries", bind=True, max_retries=1)
def retries(self: Any) -> None:
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@task(name="ignores")
def ignores() -> None:
    raise Ignore


@task(name="rejects")
def rejects() -> None:
    raise Reject("no", requeue=False)


@task(name="hangs", time_limit=1)
def hangs() -> None:
    time.sleep(60)


@task(name="dies")
def dies() -> None:
    """As the out-of-memory killer ends a child; delivered again until it is given up."""
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="sleeps")
def sleeps(seconds: float) -> None:
    time.sleep(seconds)


@task(name="sends", bind=True)
def sends(self: Any, seconds: float) -> None:
    """Publishes with this library: its messages say when."""
    fine.apply_async(countdown=seconds)


@task(name="once", policy=celeriac.Throttle(key=None, seconds=60))
def once() -> None:
    """The first call in a window."""


@task(name="calls", bind=True)
def calls(self: Any) -> None:
    """A task that calls a throttled one twice."""
    once.delay()
    once.delay()


def stay(gate: str) -> None:
    """Say that it runs; then until the gate opens, or not at all without one."""
    if gate:
        client = Redis.from_url(os.environ["CELERIAC_BROKER_URL"])
        client.lpush("running", gate)
        client.blpop([gate], timeout=60)


@task(name="alone", policy=celeriac.Exclusive(key=None, on_conflict="skip"))
def alone(gate: str) -> None:
    stay(gate)


@task(name="alone_later", policy=celeriac.Exclusive(key=None, backoff_seconds=(0.1, 0.5)))
def alone_later(gate: str) -> None:
    stay(gate)


@task(name="loses_its_lock")
def loses_its_lock() -> None:
    client = Redis.from_url(os.environ["CELERIAC_BROKER_URL"])
    lock = celeriac.Lock(client, "lock:counted", timeout=0.3, renew=True)
    lock.acquire()
    client.set("lock:counted", "somebody else's")
    assert lock.lost.wait(20)
    assert not celeriac.Lock(client, "lock:counted").acquire(blocking=False)
