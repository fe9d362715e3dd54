"""Coroutines as tasks, on a pool of the application's own, which replaces Celery's tracer when it is created."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from typing import Any

from celery import Celery
from celery.app import trace
from celery.concurrency.solo import TaskPool

app = Celery("coroutines", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_BROKER"))
app.conf.worker_pool = os.environ.get("TEST_POOL", "solo")
STOCK = trace.build_tracer


class CoroutinePool(TaskPool):
    """As the pools of celery-aio-pool and others: the tracer that it builds awaits what a task returns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trace.build_tracer = build_tracer
        trace.reset_worker_optimizations()


def build_tracer(name: str, task: Any, *args: Any, **options: Any) -> Any:
    run = task.run
    if inspect.iscoroutinefunction(run):
        task.run = functools.wraps(run)(lambda *given, **named: asyncio.run(run(*given, **named)))
    return STOCK(name, task, *args, **options)


@app.task
async def add(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


@app.task
async def fail() -> None:
    raise ValueError("broken")


@app.task
def plain(x: int) -> int:
    return x
