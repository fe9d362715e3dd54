"""Messages of tasks that Celery cancels: on a lost connection, by SIGQUIT, and by a SIGTERM that the image remaps."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess

QUICK = {"retryBackoffSeconds": {"initial": 0.2, "max": 0.5}}
LONG = {"leaseSeconds": 300}
"""What comes back within a test has not waited for its lease."""


def lines(worker: WorkerProcess, name: str) -> list[str]:
    path = worker.directory / name
    return path.read_text().split() if path.exists() else []


def release(worker: WorkerProcess, name: str) -> None:
    Path(worker.directory / name).touch()


def waiting(server: RedisServer) -> tuple[int, int]:
    """Messages in the queue, and held."""
    return server.client.llen("celery"), server.client.hlen("celeriac:held:{celery}")


@pytest.mark.parametrize("pool", ["prefork", "gevent", "eventlet"])
def test_a_task_that_is_cancelled_on_a_lost_connection_runs_again_at_once(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer, pool: str
) -> None:
    worker = start_worker("cancelled:app", worker={"pool": pool, "concurrency": 2}, delivery=LONG, broker=QUICK)
    result = producer.send_task("cancelled.hold", ("a",))
    worker.until(lambda: lines(worker, "started") == ["a"])
    redis_server.client.client_kill_filter(_type="normal", skipme=True)
    worker.until(lambda: lines(worker, "started") == ["a", "a"], timeout=40, what="it is started again")
    release(worker, "a")
    worker.until(lambda: waiting(redis_server) == (0, 0))
    assert lines(worker, "ended") == ["a"]
    assert result.get(timeout=20) == "a"


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_task_that_a_pool_cannot_cancel_runs_on_and_once(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer, pool: str
) -> None:
    worker = start_worker("cancelled:app", worker={"pool": pool, "concurrency": 2}, delivery=LONG, broker=QUICK)
    result = producer.send_task("cancelled.hold", ("a",))
    worker.until(lambda: lines(worker, "started") == ["a"])
    redis_server.client.client_kill_filter(_type="normal", skipme=True)
    if pool == "threads":
        worker.until_logged("cannot cancel it")
    release(worker, "a")
    worker.until(lambda: waiting(redis_server) == (0, 0), timeout=40)
    assert result.get(timeout=20) == "a"
    assert lines(worker, "started") == ["a"]


@pytest.mark.parametrize("pool", ["prefork", "gevent", "eventlet"])
@pytest.mark.parametrize("soft", ["0", "0.5"], ids=["at once", "after a soft shutdown"])
def test_sigquit_puts_running_and_waiting_messages_back_at_once(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer, pool: str, soft: str
) -> None:
    environment = {"TEST_SOFT_SECONDS": soft}
    worker = start_worker("cancelled:app", worker={"pool": pool}, delivery=LONG, environment=environment)
    worker.until_ready()
    producer.send_task("cancelled.hold", ("a",))
    worker.until(lambda: lines(worker, "started") == ["a"])
    producer.send_task("cancelled.hold", ("later",), countdown=600)
    worker.until(lambda: waiting(redis_server) == (0, 2))
    worker.signal(signal.SIGQUIT)
    worker.wait()
    assert waiting(redis_server) == (2, 0)
    assert lines(worker, "ended") == []


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_sigquit_lets_a_task_end_that_a_pool_cannot_cancel(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer, pool: str
) -> None:
    worker = start_worker("cancelled:app", worker={"pool": pool}, delivery=LONG).until_ready()
    result = producer.send_task("cancelled.hold", ("a",))
    worker.until(lambda: lines(worker, "started") == ["a"])
    worker.signal(signal.SIGQUIT)
    worker.until_logged("cannot cancel it")
    release(worker, "a")
    worker.wait()
    assert result.get(timeout=20) == "a"
    assert waiting(redis_server) in {(0, 0), (1, 0)}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_sigterm_drains_whatever_the_image_remaps(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer, pool: str
) -> None:
    worker = start_worker("cancelled:app", worker={"pool": pool}, environment={"REMAP_SIGTERM": "SIGQUIT"})
    result = producer.send_task("cancelled.hold", ("a",))
    worker.until(lambda: lines(worker, "started") == ["a"])
    worker.terminate()
    worker.until_not_ready()
    release(worker, "a")
    assert worker.wait() == 0
    assert result.get(timeout=20) == "a"
    assert lines(worker, "ended") == ["a"]
    assert waiting(redis_server) == (0, 0)
