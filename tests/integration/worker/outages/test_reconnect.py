"""What a worker does with the tasks in its hands when its connection to Redis breaks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess
from tests.waiting import eventually

AT_ONCE = {"retryBackoffSeconds": {"initial": 0.2, "max": 0.5}}


def written(pid: int) -> int:
    """Bytes that a process has written by now."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def runs(worker: WorkerProcess) -> list[str]:
    path = worker.directory / "notes"
    return path.read_text().split() if path.exists() else []


def held(redis_server: RedisServer) -> int:
    return int(redis_server.client.hlen("celeriac:held:{celery}"))


def unsettled(redis_server: RedisServer) -> int:
    """Messages that are held or wait in the queue, read in one step."""
    with redis_server.client as client, client.pipeline(transaction=True) as pipeline:
        return sum(pipeline.hlen("celeriac:held:{celery}").llen("celery").execute())


@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL], ids=["the child goes on", "the child dies"])
def test_a_task_that_a_child_was_sent_but_has_not_begun_runs_once_and_is_settled(
    producer: Celery,
    start_worker: StartWorker,
    redis_server: RedisServer,
    then: signal.Signals,
) -> None:
    """Celery's pool forgets such a task when the connection is lost, and the child runs it nevertheless."""
    worker = start_worker("deadly:app", worker={"pool": "prefork", "concurrency": 1}, broker=AT_ONCE)
    producer.send_task("deadly.note", args=("first",), ignore_result=True)
    worker.until(lambda: runs(worker) == ["first"])
    worker.until(lambda: held(redis_server) == 0)
    (child,) = worker.children()
    os.kill(child, signal.SIGSTOP)
    before = written(worker.pid)
    producer.send_task("deadly.note", args=("it",), ignore_result=True)
    worker.until_logged(r"deadly.note\[.*\] received", timeout=20)
    worker.until(lambda: held(redis_server) == 1)
    eventually(lambda: written(worker.pid) > before)
    redis_server.restart()
    worker.until_logged("Connection to broker lost")
    os.kill(child, then)
    worker.until(lambda: runs(worker) == ["first", "it"], timeout=40)
    worker.until(lambda: unsettled(redis_server) == 0, timeout=40)
    assert runs(worker) == ["first", "it"]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_what_ends_while_redis_restarts_is_settled_and_runs_once(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer, pool: str
) -> None:
    size = {"pool": pool, "concurrency": 8}
    worker = start_worker("deadly:app", worker=size, broker=AT_ONCE, delivery={"leaseSeconds": 5}).until_ready()
    for number in range(400):
        producer.send_task("deadly.note", args=(number, 0.05), ignore_result=True)
    worker.until(lambda: len(runs(worker)) > 60)
    redis_server.restart()
    worker.until(lambda: len(runs(worker)) > 160)
    redis_server.stop()
    worker.until_logged("broker: cannot connect")
    redis_server.start()
    worker.until(lambda: unsettled(redis_server) == 0, timeout=60)
    assert sorted(runs(worker), key=int) == [str(number) for number in range(400)]
