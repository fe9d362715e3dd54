"""An application whose prefork children are started anew instead of forked."""

from __future__ import annotations

import logging
import multiprocessing
import os
from typing import Any

from celery import Celery

app = Celery("spawned", set_as_current=False)
app.conf.worker_pool_start_method = "spawn"


@app.task(bind=True)
def speak(self: Any) -> list[str]:
    self.logger.info("by self.logger")
    logging.getLogger("third.party").warning("by a library")
    return [multiprocessing.current_process().name, os.environ.get("FORKED_BY_MULTIPROCESSING", "")]


@app.task
def fail() -> None:
    raise ValueError("on purpose")


@app.task
def leave() -> None:
    raise SystemExit(3)
