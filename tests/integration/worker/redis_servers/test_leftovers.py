"""Keys that stay in Redis: the library leaves none without an expiry, except those that stock Celery leaves too."""

from __future__ import annotations

import sys

from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess
from tests.waiting import eventually

from celeriac import Lock

DAYS = 2


def use(producer: Celery, worker: WorkerProcess, number: int) -> None:
    """A day in short: tasks, results, remote control of several kinds, an ETA, and a worker that is told to leave."""
    for value in range(5):
        assert producer.send_task("basic.add", (value, number)).get(timeout=30) == value + number
    assert producer.send_task("basic.add", (1, 1), countdown=0.5).get(timeout=30) == 2
    for question in ("ping", "stats", "active_queues", "registered"):
        inspect = producer.control.inspect(timeout=2)
        eventually(getattr(inspect, question), timeout=30, what=f"an answer to {question}")
    worker.terminate()
    assert worker.wait(60) == 0


def without_an_end(server: RedisServer) -> set[str]:
    """Keys that Redis keeps until somebody deletes them; those of an inspection's own reply queue by their kind."""
    return {key for key in server.client.scan_iter(count=1000) if server.client.ttl(key) == -1}


def test_no_key_without_an_end_is_left_that_stock_celery_does_not_leave(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    found: list[set[str]] = []
    for number in range(DAYS):
        worker = start_worker(worker={"extraArgs": []}).until_ready(timeout=90)  # with gossip and mingling
        use(producer, worker, number)
        with Lock(redis_server.client, "report", timeout=10):
            pass
        found.append(without_an_end(redis_server))
    assert found[-1] == found[0], "each day leaves more"

    ours = {key for key in found[-1] if not key.startswith("_kombu.binding.")}
    producer.control.purge()
    redis_server.client.flushall()
    urls = {"CELERY_BROKER_URL": redis_server.url, "CELERY_RESULT_BACKEND": redis_server.url}
    command = [sys.executable, "-m", "celery", "-A", "basic:app", "worker", "-c", "1", "-l", "INFO"]
    stock = start_worker(command=command, environment=urls)
    stock.until_logged("ready", timeout=90)
    use(producer, stock, 0)
    assert ours <= without_an_end(redis_server), "somebody has to delete these, and nobody does"
