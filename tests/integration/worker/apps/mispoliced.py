"""An application with policies that are wrong, each in its own way, and a task that is right."""

from __future__ import annotations

from celery import Celery, shared_task

import celeriac

app = Celery("mispoliced")
THROTTLE = celeriac.Throttle(key="user", seconds=30)


@shared_task(policy=THROTTLE)
def without_base(user: str) -> None:
    """Never runs."""


@shared_task(base=celeriac.Task, polcy=THROTTLE)
def misspelt(user: str) -> None:
    """Never runs."""


@app.task(base=celeriac.Task, policy=celeriac.Throttle(key="usr", seconds=30))
def wrong_key(user: str) -> None:
    """Never runs."""


@shared_task(base=celeriac.Task, policy=THROTTLE)
def right(user: str) -> None:
    """A task that has nothing to do with the others."""
