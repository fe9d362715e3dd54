"""Outages of Redis with real workers: tasks that run, messages that wait for their time, messages that were fetched."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess

from celeriac.store import keys

QUICK = {"maxRetries": 200, "retryBackoffSeconds": {"initial": 0.2, "max": 0.5}}
LEASE_SECONDS = 5


def notes(*workers: WorkerProcess) -> list[str]:
    files = [worker.directory / "notes" for worker in workers]
    return [line for file in files if file.exists() for line in file.read_text().split()]


def send(producer: Celery, line: str, seconds: float = 0, **options: Any) -> None:
    producer.send_task("deadly.note", args=(line, seconds), ignore_result=True, **options)


def counted(redis_server: RedisServer) -> list[Any]:
    """The records of deliveries in all messages that wait or are held."""
    with redis_server.client as client:
        stored = [*client.lrange("celery", 0, -1), *client.hvals(keys.held("celery"))]
    found = [json.loads(it[it.index("{") :])["properties"].get("celeriac") for it in stored]
    return [it for it in found if it]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("how", ["killed", "paused"])
def test_an_outage_longer_than_the_lease_takes_no_running_task_from_a_worker_that_lives(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer, how: str
) -> None:
    workers = [
        start_worker(
            "deadly:app",
            worker={"pool": pool, "concurrency": 2, "prefetch": 0},
            broker=QUICK,
            delivery={"leaseSeconds": LEASE_SECONDS, "maxDeliveries": 2},
        ).until_ready()
        for pool in ("prefork", "threads", "threads")
    ]
    for number in range(6):
        send(producer, f"long{number}", 22)
    send(producer, "later", countdown=14)
    workers[0].until(lambda: len(notes(*workers)) == 6)
    if how == "killed":
        redis_server.kill()
    else:
        redis_server.pause()
    time.sleep(2 * LEASE_SECONDS)  # the outage itself
    if how == "killed":
        redis_server.start()
    else:
        redis_server.resume()
    workers[0].until(
        lambda: not redis_server.client.exists("celery", keys.held("celery")), timeout=60, what="all is settled"
    )
    assert sorted(notes(*workers)) == ["later", *(f"long{number}" for number in range(6))]
    assert "of dead workers" not in "".join(worker.logs() for worker in workers)


@pytest.mark.timeout(170)
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_what_waits_does_not_pay_for_restarts_of_redis_and_begins_in_time(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer, pool: str
) -> None:
    """Of a message with an ETA and of those that were only fetched; with as few deliveries as a pool can have."""
    worker = start_worker(
        "deadly:app",
        worker={"pool": pool, "concurrency": 1, "prefetch": 2},
        broker=QUICK,
        delivery={"leaseSeconds": LEASE_SECONDS, "maxDeliveries": 1},
    ).until_ready()
    begun = time.monotonic()
    send(producer, "running", 18)
    worker.until(lambda: notes(worker))
    send(producer, "later", countdown=20 - (time.monotonic() - begun))
    for number in range(2):
        send(producer, f"fetched{number}")
    for _ in range(3):
        worker.until(lambda: redis_server.client.hlen(keys.held("celery")) >= 3, what="they are fetched")
        redis_server.kill()
        time.sleep(1)  # the outage itself
        redis_server.start()
        worker.until_ready()
    assert counted(redis_server) == []
    worker.until(lambda: len(notes(worker)) == 4, timeout=60)
    took = time.monotonic() - begun
    assert notes(worker) == ["running", "fetched0", "fetched1", "later"]
    assert redis_server.client.xlen(keys.dead("celery")) == 0
    assert took < 20 + LEASE_SECONDS, "it would be late by a lease if it had run out"
