"""A worker runs an unmodified application on every kind of pool."""

from __future__ import annotations

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_of_an_unmodified_application_run(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2}).until_ready()
    results = [producer.send_task("basic.add", (n, n)) for n in range(10)]
    assert [result.get(timeout=10) for result in results] == [2 * n for n in range(10)]
    assert worker.status()["node"] == "plain@pod-1"
    worker.terminate()
    assert worker.wait() == 0
