"""Tasks that are cancelled while they run, in an application that wants that on a lost connection."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("cancelled", set_as_current=False)
app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
app.conf.worker_soft_shutdown_timeout = float(os.environ.get("TEST_SOFT_SECONDS", "0"))
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


def write(name: str, line: str) -> None:
    with (DIRECTORY / name).open("a") as file:
        file.write(f"{line}\n")


@app.task
def hold(name: str) -> str:
    """Run until a file of this name appears."""
    write("started", name)
    while not (DIRECTORY / name).exists():
        time.sleep(0.02)
    write("ended", name)
    return name
