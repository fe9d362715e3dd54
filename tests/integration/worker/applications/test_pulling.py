"""Tasks that take messages themselves: each `get` takes one, under its own identity, and a kill loses none."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess

LEASE = {"leaseSeconds": 5}


def lines(worker: WorkerProcess, name: str) -> list[str]:
    path = worker.directory / name
    return path.read_text().splitlines() if path.exists() else []


def put(producer: Celery, *payloads: str) -> None:
    with producer.connection_for_write() as connection:
        queue = connection.SimpleQueue("work")
        for payload in payloads:
            queue.put(payload)
        queue.close()


def work(server: RedisServer) -> tuple[int, int]:
    """Messages that wait in the queue `work`, and those that are held."""
    return server.client.llen("work"), server.client.hlen("celeriac:held:{work}")


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_each_get_takes_one_message_and_what_is_settled_is_settled_at_once(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer, pool: str
) -> None:
    put(producer, *(f"m{number}" for number in range(6)))
    worker = start_worker("pulling:app", worker={"pool": pool, "concurrency": 2}, delivery=LEASE)
    first, second = (producer.send_task("pulling.pull", (end,)) for end in ("one", "two"))
    worker.until(lambda: len(lines(worker, "taken")) == 2)
    assert work(redis_server) == (4, 2)
    Path(worker.directory / "one").touch()
    worker.until(lambda: lines(worker, "settled"))
    worker.until(lambda: work(redis_server), lambda it: it == (4, 1), timeout=5, what="settled before it is closed")
    Path(worker.directory / "two").touch()
    Path(worker.directory / "closing").touch()
    assert {first.get(timeout=30), second.get(timeout=30)} == {"m0", "m1"}
    worker.until(lambda: work(redis_server), lambda it: it == (4, 0))
    assert "lost the lease" not in worker.logs()


def test_what_a_killed_child_held_comes_again_and_what_another_holds_stays_its_own(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    put(producer, "a")
    worker = start_worker("pulling:app", worker={"concurrency": 2}, delivery=LEASE).until_ready()
    producer.send_task("pulling.pull", ("end",))
    worker.until(lambda: len(lines(worker, "taken")) == 1)
    put(producer, "b")
    producer.send_task("pulling.pull_and_die")
    worker.until(lambda: len(lines(worker, "taken")) == 2)
    # The child that lives looks after the queue as long as it consumes from it.
    worker.until(lambda: work(redis_server), lambda it: it == (1, 1), timeout=30, what="`b` is back, `a` still held")
    producer.send_task("pulling.pull", ("end",))
    worker.until(lambda: [it.split()[0] for it in lines(worker, "taken")], lambda it: it == ["a", "b", "b"], timeout=30)
    Path(worker.directory / "end").touch()
    Path(worker.directory / "closing").touch()
    worker.until(lambda: sorted(lines(worker, "settled")), lambda it: it == ["a", "b"], timeout=30)
    worker.until(lambda: work(redis_server), lambda it: it == (0, 0))
    assert "lost the lease" not in worker.logs()


def test_what_the_children_of_a_killed_worker_held_comes_again(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    put(producer, "a", "b")
    first = start_worker("pulling:app", worker={"concurrency": 2}, delivery=LEASE)
    for _ in range(2):
        producer.send_task("pulling.pull", ("never",))
    first.until(lambda: len(lines(first, "taken")) == 2)
    assert work(redis_server) == (0, 2)
    first.clean_up()
    redis_server.client.delete("celery", "celeriac:held:{celery}", "celeriac:leases:{celery}")
    second = start_worker("pulling:app", worker={"concurrency": 2}, delivery=LEASE)
    for _ in range(2):
        producer.send_task("pulling.pull", ("never",))
    second.until(
        lambda: sorted(it.split()[0] for it in lines(second, "taken")), lambda it: it == ["a", "b"], timeout=40
    )
