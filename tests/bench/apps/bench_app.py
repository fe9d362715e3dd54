"""The application that both sides run, with the same settings."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_URL"], set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_MULTIPLIER", "1")),
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": int(os.environ.get("BENCH_VISIBILITY", "3600"))},
)


@app.task
def nothing() -> None:
    """No work at all, so that only the cost of a delivery is measured."""


@app.task
def pause(seconds: float) -> None:
    time.sleep(seconds)


@app.task
def note(number: int) -> None:
    """A side effect outside Redis: one line, appended at once."""
    descriptor = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, b"%d\n" % number)
    finally:
        os.close(descriptor)


@app.task
def note_and_stay(number: int, seconds: float) -> None:
    """As `note`, saying in the worker's own directory that it was this one, and taking a while."""
    note(number)
    (Path(os.environ["TEST_DIRECTORY"]) / "began").touch()
    time.sleep(seconds)


@app.task
def work(number: int, seconds: float) -> None:
    """Work, then one side effect outside Redis: a line that says whose it was and when."""
    here = Path(os.environ["TEST_DIRECTORY"])
    (here / "began").touch()
    time.sleep(seconds)
    descriptor = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{number} {here.name} {time.monotonic()}\n".encode())
    finally:
        os.close(descriptor)


@app.task
def moment() -> None:
    """Say when it began: CLOCK_MONOTONIC is the same for all processes of a machine."""
    with (Path(os.environ["TEST_DIRECTORY"]) / "moments").open("a") as moments:
        moments.write(f"{time.monotonic()}\n")
