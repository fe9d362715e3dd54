"""An application whose tasks say things in every way there is."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery
from celery.utils.log import get_task_logger

app = Celery("talking", set_as_current=False)
logger = get_task_logger(__name__)
library = logging.getLogger("third.party")


@app.task(bind=True)
def speak(self: Any) -> None:
    self.logger.info("by self.logger", extra={"customer": 7})
    logger.info("by the task logger")
    library.warning("by a library")
    print("by print")
    library.warning("first line\nsecond line")
    library.warning("with fields of its own", extra={"task_name": "theirs", "task_id": "0"})
    thread = threading.Thread(target=library.warning, args=("from a thread",))
    thread.start()
    thread.join()
    try:
        {}["lost"]
    except KeyError:
        self.logger.exception("it failed")
