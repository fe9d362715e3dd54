"""An application of more tasks than anybody wants to see apart."""

from __future__ import annotations

from celery import Celery

app = Celery("many", set_as_current=False)

for _number in range(130):

    @app.task(name=f"many.{_number}")
    def _nothing() -> None:
        """Does nothing."""
