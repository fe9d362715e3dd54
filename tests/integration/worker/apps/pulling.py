"""Tasks that take messages of another queue with kombu's `SimpleQueue`, as a counter of clicks does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from celery import Celery

app = Celery("pulling", set_as_current=False)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


def write(name: str, line: str) -> None:
    with (DIRECTORY / name).open("a") as file:
        file.write(f"{line}\n")


@app.task
def pull(end: str) -> str:
    """Take one message, wait until the file `end` is there, and settle the message; `end` may be `die`."""
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("work")
        message = queue.get(timeout=30)
        write("taken", f"{message.payload} {os.getpid()}")
        if end == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while not (DIRECTORY / end).exists():
            time.sleep(0.02)
        message.ack()
        write("settled", message.payload)
        while not (DIRECTORY / "closing").exists():
            time.sleep(0.02)
        queue.close()
    return str(message.payload)


@app.task(acks_late=False, reject_on_worker_lost=False)
def pull_and_die() -> None:
    """As the out-of-memory killer ends a child that holds a message; this task itself is not run again."""
    pull("die")
