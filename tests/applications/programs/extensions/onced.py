"""Tasks that run once for equal arguments, by two extensions, and a task of RedBeat's schedule."""

import os
import time

from celery import Celery
from celery_once import QueueOnce
from celery_singleton import Singleton

URL = os.environ["APPLICATION_BROKER"]
app = Celery("onced", broker=URL, backend=URL)
app.conf.ONCE = {"backend": "celery_once.backends.Redis", "settings": {"url": URL, "default_timeout": 3600}}
app.conf.singleton_backend_url = URL
app.conf.redbeat_redis_url = URL
app.conf.beat_max_loop_interval = 1
app.conf.beat_schedule = {"tick": {"task": "onced.tick", "schedule": 1.0}}


def note(name):
    app.backend.client.rpush(name, "run")


@app.task(base=Singleton)
def single(number):
    note(f"single-{number}")
    time.sleep(1)
    return number


@app.task(base=QueueOnce, once={"graceful": True})
def once(number):
    note(f"once-{number}")
    time.sleep(1)
    return number


@app.task(base=Singleton)
def single_fails():
    raise ValueError("broken")


@app.task(base=QueueOnce)
def once_fails():
    raise ValueError("broken")


@app.task
def tick():
    note("ticks")
