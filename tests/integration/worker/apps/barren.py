"""An application whose pool does not replace its processes any more, as after an error inside of it."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import worker_ready

app = Celery("barren", set_as_current=False)


@worker_ready.connect
def stop_replacing(sender: Any, **_: Any) -> None:
    sender.controller.pool._pool.maintain_pool = lambda: None
