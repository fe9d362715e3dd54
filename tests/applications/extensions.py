"""Extensions of Celery: batches, schedules, tasks that run once, and a pool for coroutines."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.applications.place import Place, until


def at(place: Place) -> None:
    """Bring the applications to the place; they read the broker's URL from the environment."""
    place.copy_programs("extensions")
    place.environment["APPLICATION_BROKER"] = place.redis.url


def script(place: Place, name: str) -> Iterator[tuple[str, str]]:
    """Run a script of the application that prints a JSON object: outcomes by step."""
    yield from json.loads(place.run("python", name).splitlines()[-1]).items()


def batches(place: Place) -> Iterator[tuple[str, str]]:
    at(place)
    for pool in ("prefork", "threads", "gevent", "solo"):
        worker = place.worker("batched:app", pool=pool, concurrency=1 if pool == "solo" else 4, name=f"worker-{pool}")
        for step, outcome in script(place, "send_batches.py"):
            yield f"{pool}: {step}", outcome
        until(place.left_in_queue, lambda it: it == 0, what="all messages are settled")
        yield f"{pool}: SIGTERM", f"exit code {worker.terminate()}"


def once_only(place: Place) -> Iterator[tuple[str, str]]:
    at(place)
    worker = place.worker("onced:app", concurrency=4)
    yield from script(place, "call_once.py")
    place.start("beat", "python", "-m", "celery", "-A", "onced:app", "beat", "-S", "redbeat.RedBeatScheduler")
    runs = until(lambda: place.redis.client.llen("ticks"), lambda it: it >= 2, what="RedBeat's task")
    yield "a task of RedBeat's schedule", "runs again and again" if runs else "never runs"
    yield "SIGTERM", f"exit code {worker.terminate()}"


def aio_pool(place: Place) -> Iterator[tuple[str, str]]:
    at(place)
    place.environment["CELERY_CUSTOM_WORKER_POOL"] = "celery_aio_pool.pool:AsyncIOPool"
    worker = place.worker("coroutines:app", pool="custom", concurrency=4)
    yield from script(place, "call_coroutines.py")
    yield "SIGTERM", f"exit code {worker.terminate()}"
