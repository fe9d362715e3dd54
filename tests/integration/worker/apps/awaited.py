"""Tasks that kill their process, and callers that wait for them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery, signals

app = Celery("awaited", set_as_current=False)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


def write(name: str, line: str) -> None:
    with (DIRECTORY / name).open("a") as file:
        file.write(f"{line}\n")


@app.task
def die(name: str = "x") -> str:
    """End as by the out-of-memory killer, unless the file `mended` is there."""
    write("died", name)
    if not (DIRECTORY / "mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "mended"


@app.task
def fine() -> int:
    return 1


@app.task
def total(parts: list[int]) -> int:
    return sum(parts)


@app.task
def errback(request: Any, exc: BaseException, traceback: Any) -> None:
    write("errbacks", f"{request.id} {type(exc).__name__}")


@signals.task_failure.connect
def failed(task_id: str, exception: BaseException, **_: Any) -> None:
    write("failures", f"{task_id} {type(exception).__name__}")
