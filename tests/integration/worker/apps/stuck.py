"""An application that blocks the worker's consumer loop, as a hanging call in a library does."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from celery.signals import task_received

app = Celery("stuck", set_as_current=False)


@app.task
def block_the_loop() -> None:
    pass


@task_received.connect
def block(**_: Any) -> None:
    time.sleep(60)
