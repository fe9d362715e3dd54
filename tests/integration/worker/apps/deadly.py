"""Tasks that do not come to an end, and tasks of many queues."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from celery import Celery

app = Celery("deadly", set_as_current=False)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))
app.conf.broker_transport_options = {
    "global_keyprefix": os.environ.get("TEST_PREFIX", ""),
    "visibility_timeout": int(os.environ.get("TEST_VISIBILITY_SECONDS", "3600")),
    **({"master_name": os.environ["TEST_MASTER"]} if "TEST_MASTER" in os.environ else {}),
}
if "TEST_QUEUE_TYPE" in os.environ:
    app.conf.task_default_queue_type = os.environ["TEST_QUEUE_TYPE"]
if "TEST_DISABLE_PREFETCH" in os.environ:
    app.conf.worker_disable_prefetch = True


@app.task
def die() -> None:
    """As the out-of-memory killer ends a child."""
    with (DIRECTORY / "died").open("a") as file:
        file.write("x\n")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def note(line: str, seconds: float = 0) -> None:
    with (DIRECTORY / "notes").open("a") as notes:
        notes.write(f"{line}\n")
    time.sleep(seconds)
