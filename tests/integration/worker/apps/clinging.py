"""An application whose process does not end when it should, as one that the kernel holds on to."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from celery import Celery

app = Celery("clinging", set_as_current=False)


@app.task
def sleep(seconds: float) -> None:
    time.sleep(seconds)


def cling(_: int) -> NoReturn:
    while True:
        time.sleep(60)


os._exit = cling
