"""Tasks that log in each way, and one that is sent when a transaction is committed."""

import logging
from typing import Any

from celery import shared_task
from django.db import transaction

import celeriac

orders = logging.getLogger("orchard.orders")
library = logging.getLogger("third.party")


@shared_task(bind=True, base=celeriac.Task)
def order(self: Any, number: int) -> bool:
    self.logger.info("by self.logger")
    orders.info("by a logger with its own handlers")
    logging.getLogger("django.request").warning("by Django")
    library.warning("by a library")
    with transaction.atomic():
        deliver.delay_on_commit(number)
    return True


@shared_task(bind=True, base=celeriac.Task)
def deliver(self: Any, number: int) -> None:
    self.logger.info("delivered %s", number)
