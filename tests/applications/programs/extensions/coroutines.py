"""Tasks that are coroutines."""

import asyncio
import os
import time

from celery import Celery

URL = os.environ["APPLICATION_BROKER"]
app = Celery("coroutines", broker=URL, backend=URL)


@app.task
async def add(x, y):
    await asyncio.sleep(0.1)
    return x + y


@app.task
async def stay(seconds):
    began = time.time()
    await asyncio.sleep(seconds)
    return began, time.time()


@app.task
async def fail():
    await asyncio.sleep(0)
    raise ValueError("broken")


@app.task(bind=True, max_retries=2)
async def again(self):
    await asyncio.sleep(0)
    if self.request.retries < 1:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def plain(x):
    return x
