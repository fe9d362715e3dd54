"""Tasks that write down what they were called with; every content type that kombu knows is accepted."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery

import celeriac
from celeriac.policies.values import Unique

app = Celery("received", set_as_current=False)
app.conf.accept_content = ["json", "pickle", "yaml", "msgpack"]
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


@app.task
def note(line: str) -> str:
    with (DIRECTORY / "notes").open("a") as notes:
        notes.write(f"{line}\n")
    return line


@app.task(base=celeriac.Task, policy=Unique(key="line"))
def once(line: str) -> str:
    return note(line)


@app.task(rate_limit="1000/s")
def limited(line: str) -> str:
    return note(line)


def ends_its_worker(task: Any, app: Any, consumer: Any, **_: Any) -> Any:
    """What no check of ours can foresee."""

    def handle(*_: Any, **__: Any) -> None:
        sys.exit("the end")

    return handle


@app.task(Strategy="received:ends_its_worker")
def end() -> None:
    """Never runs."""
