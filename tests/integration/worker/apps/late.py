"""An application that takes its time when the worker is set up: it warms a cache, say."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from celery.signals import worker_init

app = Celery("late", set_as_current=False)


@worker_init.connect
def warm_up(**_: Any) -> None:
    time.sleep(5)
