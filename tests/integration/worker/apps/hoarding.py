"""An application that never looks for garbage, and says what a worker keeps."""

from __future__ import annotations

import gc

from celery import Celery
from celery.worker.request import Request

app = Celery("hoarding", set_as_current=False)
gc.disable()


@app.task
def pass_by() -> None:
    """Nothing, at once or later."""


@app.task(rate_limit="100/s")
def pass_slowly() -> None:
    """Nothing, not too often."""


@app.task
def count_requests() -> int:
    """Celery's requests that are in this process's memory."""
    return sum(isinstance(it, Request) for it in gc.get_objects())
