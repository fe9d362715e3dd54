"""A reusable Django application's tasks: they belong to whatever Celery application there is."""

from __future__ import annotations

from celery import Celery, shared_task

import celeriac

app = Celery("shared", set_as_current=False)


@shared_task(bind=True, base=celeriac.Task, policy=celeriac.Throttle(key="{user}", seconds=60))
def greet(self: celeriac.Task, user: str) -> str:
    self.logger.info("greeted")
    return user
