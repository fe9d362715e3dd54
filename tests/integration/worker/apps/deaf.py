"""An application whose worker goes deaf: connected, its loop turning, and taking nothing any more."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import worker_ready

app = Celery("deaf", set_as_current=False)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@worker_ready.connect
def go_deaf(sender: Any, **_: Any) -> None:
    poller = sender.connection.transport.cycle
    poller._channels.clear()  # the channels are not asked to fetch any more
