"""Tasks that hold locks which outlast any test, unless their worker is known to be dead."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import redis
from celery import Celery

import celeriac

app = Celery("locked", set_as_current=False)
app.conf.task_ignore_result = True
DIRECTORY = Path(os.environ["TEST_NOTES"])


def note_and_stay(what: str) -> None:
    """The first run stays until it is killed; the second is done at once."""
    with (DIRECTORY / what).open("a") as notes:
        notes.write(f"{os.getpid()}\n")
    if len((DIRECTORY / what).read_text().split()) == 1:
        time.sleep(600)


@app.task(bind=True, base=celeriac.Task, policy=celeriac.Exclusive(lock_seconds=600, backoff_seconds=(0.1, 0.2)))
def exclusive(self: Any) -> None:
    note_and_stay("exclusive")


@app.task
def plain() -> None:
    """A lock of its own, without a timeout."""
    with redis.Redis.from_url(os.environ["CELERIAC_BROKER_URL"]) as client, celeriac.Lock(client, "endless"):
        note_and_stay("plain")
