"""An ordinary Celery application that does not use Celeriac."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("basic", set_as_current=False)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def note(line: str) -> None:
    """A side effect outside Redis."""
    with (DIRECTORY / "notes").open("a") as notes:
        notes.write(f"{line}\n")


@app.task
def sleep(seconds: float) -> float:
    with (DIRECTORY / "started").open("a") as started:
        started.write(f"{seconds}\n")
    time.sleep(seconds)
    with (DIRECTORY / "finished").open("a") as finished:
        finished.write(f"{seconds}\n")
    return seconds


@app.task
def relay(seconds: float) -> float:
    """Call another task at the end."""
    sleep(seconds)
    note.delay(f"{seconds}")
    return seconds


@app.task
def hold(name: str) -> str:
    """Run until a file of this name appears."""
    while not (DIRECTORY / name).exists():
        time.sleep(0.02)
    return name


@app.task
def fail(message: str) -> None:
    raise ValueError(message)
