"""An application whose tasks have words of their own."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("own", set_as_current=False)


@app.task(time_limit=1)
def limited() -> None:
    time.sleep(20)


@app.task
def plain() -> None:
    pass


@app.task
def used_at_import() -> None:
    pass


@app.task(acks_late=False)
def early() -> None:
    pass


@app.task(acks_late=True)
def late() -> None:
    pass


@app.task
def acks_late() -> dict[str, bool]:
    return {task.name.partition(".")[2]: bool(task.acks_late) for task in (plain, used_at_import, early, late)}


@app.task
def pid() -> int:
    return os.getpid()


# A signature in a schedule makes Celery bind the task while the module is imported.
app.conf.beat_schedule = {"now and then": {"task": used_at_import.name, "schedule": 60.0}}
early.s()
