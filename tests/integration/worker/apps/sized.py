"""An application that says itself how many tasks run at a time."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("sized", broker=os.environ.get("TEST_BROKER"))
app.conf.worker_concurrency = 3


@app.task(name="sized.echo")
def echo(value: str) -> str:
    """Returns what it is given."""
    return value
