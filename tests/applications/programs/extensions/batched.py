"""The example of celery-batches' documentation."""

import os

from celery import Celery
from celery_batches import Batches

URL = os.environ["APPLICATION_BROKER"]
app = Celery("batched", broker=URL, backend=URL)


@app.task(base=Batches, flush_every=10, flush_interval=2)
def count_click(requests):
    for request in requests:
        app.backend.mark_as_done(request.id, len(requests), request=request)


@app.task
def plain(number):
    return number
