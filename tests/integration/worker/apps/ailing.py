"""An application with something for the doctor to find."""

from __future__ import annotations

from celery import Celery

print("an application that prints while it is imported")

app = Celery("ailing", set_as_current=False)


@app.task(name="early", acks_late=False)
def early() -> None:
    """Acknowledged before it runs, whatever the pool promises."""


@app.task(name="long", time_limit=900)
def long() -> None:
    """May run for longer than a drain."""
