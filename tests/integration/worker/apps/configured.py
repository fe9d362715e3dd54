"""An application that sets its logging up itself, as Django projects do."""

from __future__ import annotations

import logging
import logging.config
from typing import Any

from celery import Celery
from celery.signals import setup_logging

app = Celery("configured", set_as_current=False)


@setup_logging.connect
def configure(**_: Any) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"own": {"format": "OWN %(task_name)s %(task_id)s %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    )


@app.task(bind=True)
def speak(self: Any) -> None:
    self.logger.info("by self.logger")
    logging.getLogger("third.party").warning("by a library")
