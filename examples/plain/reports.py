"""An ordinary Celery application that does not use Celeriac."""

import os
import time

from celery import Celery
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)

app = Celery("reports", broker=os.environ.get("BROKER_URL", "redis://localhost:6379/0"))
app.conf.result_backend = os.environ.get("RESULT_BACKEND_URL")
app.conf.task_default_queue = "reports"


@app.task
def add_up(numbers: list[float]) -> float:
    """Add numbers up."""
    total = sum(numbers)
    logger.info("%d numbers make %s", len(numbers), total)
    return total


@app.task(bind=True)
def render(self, title: str, seconds: float = 1) -> str:  # type: ignore[no-untyped-def]  # as most applications write it
    """Take some seconds over a report."""
    logger.info("rendering %s", title)
    time.sleep(seconds)
    return f"{title}, by {self.request.hostname}"
