"""An application whose tasks say things in every way there is."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_ready
from celery.utils.log import get_task_logger

app = Celery("talking", set_as_current=False)
logger = get_task_logger(__name__)
library = logging.getLogger("third.party")


@app.task(bind=True)
def speak(self: Any) -> None:
    self.logger.info("by self.logger", extra={"customer": 7})
    logger.info("by the task logger")
    library.warning("by a library")
    print("by print")
    print("several", 3, "values")
    library.warning("first line\nsecond line")
    library.warning("with fields of its own", extra={"task_name": "theirs", "task_id": "0"})
    library.warning("with a stack", stack_info=True)
    library.warning("with %d arguments that do not fit", "no")
    thread = threading.Thread(target=library.warning, args=("from a thread",))
    thread.start()
    thread.join()
    try:
        {}["lost"]
    except KeyError:
        self.logger.exception("it failed")
    print("a line without an end", end="")


@app.task
def fail() -> None:
    raise ValueError("nobody caught it")


@worker_ready.connect
def greet(**_: Any) -> None:
    library.warning("outside a task")
    print("by print outside a task")


@worker_process_init.connect
def start(**_: Any) -> None:
    library.warning("from a child process")
