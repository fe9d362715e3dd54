"""Debounced tasks of both sides, with the same settings. Each run notes key, the call's moment and its own."""

from __future__ import annotations

import os
import time

import redis
from celery import Celery

import celeriac

QUIET_SECONDS = 1.0
URL = os.environ["BENCH_URL"]

app = Celery("bench", broker=URL, set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_MULTIPLIER", "1")),
    broker_connection_retry_on_startup=True,
)
cache = redis.Redis.from_url(URL)
notes = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND)


def note(key: str, called_at: float) -> None:
    os.write(notes, f"{key} {called_at} {time.time()}\n".encode())


@app.task(base=celeriac.Task, policy=celeriac.Debounce(key="key", seconds=QUIET_SECONDS))
def ours(key: str, called_at: float) -> None:
    note(key, called_at)


@app.task
def by_hand(key: str, called_at: float, token: str) -> None:
    """The usual pattern: every call is a message with a countdown; only the last one finds its token in the cache."""
    if cache.get(f"debounce:{key}") == token.encode():
        note(key, called_at)


def call_by_hand(key: str, called_at: float) -> None:
    token = os.urandom(8).hex()
    cache.set(f"debounce:{key}", token, ex=3600)
    by_hand.apply_async((key, called_at, token), countdown=QUIET_SECONDS)
