"""Tasks that somebody watches."""

import os

from celery import Celery

URL = os.environ["APPLICATION_BROKER"]
app = Celery("watched", broker=URL, backend=URL)


@app.task
def add(x, y):
    return x + y


@app.task
def fail():
    raise ValueError("broken")
