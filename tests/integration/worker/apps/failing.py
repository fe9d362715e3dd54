"""An application whose tasks fail in every way there is."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject

app = Celery("failing", set_as_current=False)


class ExpectedError(Exception):
    """One that a task declares."""


@app.task
def plain(secret: str = "") -> None:
    raise ValueError("it broke")


@app.task(bind=True, max_retries=2)
def retries(self: Any) -> None:
    raise self.retry(exc=ValueError("still broken"), countdown=0)


@app.task(autoretry_for=(ValueError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
def retries_by_itself() -> None:
    raise ValueError("still broken")


@app.task(soft_time_limit=1, time_limit=20)
def soft() -> None:
    time.sleep(15)


@app.task(time_limit=1)
def hard(secret: str = "") -> None:
    time.sleep(15)


@app.task(acks_late=True, reject_on_worker_lost=False)
def dies(secret: str = "") -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def eats() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**20)


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def dies_once(self: Any) -> str:
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@app.task
def ignored() -> None:
    raise Ignore


@app.task(acks_late=True)
def rejected() -> None:
    raise Reject("no", requeue=False)


@app.task(throws=(ExpectedError,))
def expected() -> None:
    raise ExpectedError


@app.task
def fine() -> str:
    return "fine"


@app.task(bind=True, max_retries=1)
def retried_once(self: Any) -> None:
    if not self.request.retries:
        raise self.retry(exc=ValueError("not yet"), countdown=0)
