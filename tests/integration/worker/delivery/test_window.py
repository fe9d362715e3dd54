"""How many messages a worker holds: what the pool or the application says, also after a lost connection."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess

from celeriac.store import keys

QUICK = {"maxRetries": 200, "retryBackoffSeconds": {"initial": 0.2, "max": 0.5}}


def notes(worker: WorkerProcess) -> list[str]:
    path = worker.directory / "notes"
    return path.read_text().split() if path.exists() else []


def send(producer: Celery, line: str, seconds: float = 0, **options: Any) -> None:
    producer.send_task("deadly.note", args=(line, seconds), ignore_result=True, **options)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_after_lost_connections_the_window_is_what_it_was(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer, pool: str
) -> None:
    """Two slots and one message beyond them; the tasks that run through the outages count."""
    worker = start_worker("deadly:app", worker={"pool": pool, "concurrency": 2, "prefetch": 1}, broker=QUICK)
    worker.until_ready()
    for number in range(2):
        send(producer, f"runs-on{number}", 15)
    for number in range(20):
        send(producer, f"waits{number}", 1)
    worker.until(lambda: len(notes(worker)) == 2)
    for _ in range(2):
        redis_server.restart()
        worker.until_logged("Connection to broker lost")
        worker.until_ready()
    most, ended = 0, False
    while not ended:
        held = int(redis_server.client.hlen(keys.held("celery")))
        most = max(most, held)
        ended = worker.until(lambda: len(notes(worker))) >= 10
        time.sleep(0.02)  # looks again and again while tasks go on
    assert most == 3


def test_an_application_that_disables_prefetching_holds_what_it_runs(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    worker = start_worker(
        "deadly:app", worker={"pool": "threads", "concurrency": 2}, environment={"TEST_DISABLE_PREFETCH": "1"}
    ).until_ready()
    for number in range(12):
        send(producer, str(number), 0.3)
    most = 0
    while len(notes(worker)) < 12:
        most = max(most, int(redis_server.client.hlen(keys.held("celery"))))
        assert worker.is_alive()
        time.sleep(0.01)
    assert most == 2


@pytest.mark.alone
def test_a_queue_that_is_added_to_an_idle_worker_is_read_at_once(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    """Its connection waits for changes of the other lists, and asks without one only every five seconds."""
    worker = start_worker("deadly:app", worker={"pool": "threads"}).until_ready()
    delays = []
    for number in range(4):
        queue = f"late{number}"
        assert producer.control.add_consumer(queue, reply=True, timeout=5, limit=1)
        sent = time.monotonic()
        send(producer, queue, queue=queue)
        worker.until(lambda number=number: len(notes(worker)) == number + 1)
        delays.append(time.monotonic() - sent)
    assert statistics.median(delays) < 1, delays
