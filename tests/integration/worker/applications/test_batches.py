"""Batches of celery-batches run on every pool, as with stock Celery; no batch waits for messages that cannot come."""

from __future__ import annotations

import sys

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac.store import keys

BATCHES = 4


def run_batches(producer: Celery) -> list[int]:
    """Send four batches and a plain task; how many messages ran with each of them, when all have."""
    results = [producer.send_task("batching.count") for _ in range(10 * BATCHES)]
    assert producer.send_task("batching.plain", (7,)).get(timeout=60) == 7
    return [result.get(timeout=60) for result in results]


@pytest.mark.parametrize("pool", ["stock", "prefork", "threads", "gevent", "solo"])
def test_batches_are_filled_and_settled(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    environment = {"TEST_BROKER": redis_server.url}
    if pool == "stock":
        command = [sys.executable, "-m", "celery", "-A", "batching:app", "worker", "-c", "4"]
        start_worker("batching:app", environment=environment, command=[*command, "-l", "INFO"])
    else:
        start_worker("batching:app", worker={"pool": pool, "concurrency": 4}, environment=environment).until_ready()
    assert run_batches(producer) == [10] * 10 * BATCHES
    left = ("celery", "unacked", keys.held("celery"))
    eventually(lambda: not redis_server.client.exists(*left), timeout=30, what="that all messages are settled")
