"""An application whose tasks hold their slots until a file appears."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("filled", set_as_current=False)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


def _hold(name: str) -> str:
    with (DIRECTORY / "begun").open("a") as begun:
        begun.write(f"{name}\n")
    while not (DIRECTORY / name).exists():
        time.sleep(0.05)
    return name


@app.task
def hold(name: str) -> str:
    return _hold(name)


@app.task(acks_late=False)
def hold_early(name: str) -> str:
    """Its message is settled when it begins."""
    return _hold(name)


@app.task
def add(x: int, y: int) -> int:
    return x + y
