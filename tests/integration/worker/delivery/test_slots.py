"""How many slots a worker has, and how many messages it holds for them, also when its pool changes."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac.exits import Exit


def stats(app: Celery) -> dict[str, Any]:
    """What the one worker says of itself."""
    answers = eventually(lambda: app.control.inspect(timeout=2).stats(), timeout=60, what="an answer")
    (answer,) = answers.values()
    found: dict[str, Any] = answer
    return found


def test_an_applications_worker_concurrency_holds_as_in_stock_celery_and_the_window_follows_the_pool(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    broker = {"TEST_BROKER": redis_server.url}
    command = [sys.executable, "-m", "celery", "-A", "sized:app", "worker", "-l", "INFO"]
    stock = start_worker("sized:app", environment=broker, command=command)
    stock.until_logged("ready", timeout=90)
    slots = stats(producer)["pool"]["max-concurrency"]
    assert slots == 3
    stock.terminate()
    stock.wait()

    worker = start_worker("sized:app").until_ready(timeout=90)
    said = stats(producer)
    assert (said["pool"]["max-concurrency"], said["prefetch_count"]) == (slots, slots + 1)
    producer.control.pool_grow(2, reply=True, timeout=10)
    worker.until(lambda: stats(producer)["prefetch_count"], lambda it: it == slots + 3, timeout=30)
    producer.control.pool_shrink(1, reply=True, timeout=10)
    worker.until(lambda: stats(producer)["prefetch_count"], lambda it: it == slots + 2, timeout=30)


def test_a_pool_of_the_images_own_runs_and_one_that_nobody_names_is_a_sentence(
    start_worker: StartWorker, producer: Celery
) -> None:
    nameless = start_worker("sized:app", worker={"pool": "custom"})
    assert nameless.wait(60) == Exit.CONFIGURATION
    assert "CELERY_CUSTOM_WORKER_POOL" in nameless.termination_message()
    named = {"CELERY_CUSTOM_WORKER_POOL": "celery.concurrency.thread:TaskPool"}
    start_worker("sized:app", worker={"pool": "custom"}, environment=named).until_ready(timeout=90)
    assert producer.send_task("sized.echo", ("a",)).get(timeout=30) == "a"
