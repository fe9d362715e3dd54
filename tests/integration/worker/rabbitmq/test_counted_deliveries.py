"""On RabbitMQ: a task that kills its worker runs `maxDeliveries` times, and its message is kept as a dead letter."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.operator.rabbitmq import RabbitMQServer
from tests.integration.worker.processes import APPS, WorkerProcess
from tests.integration.worker.rabbitmq.conftest import StartWorker
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("rabbitmq")  # one server for all of them


def lines(directory: Path, name: str) -> list[str]:
    path = directory / name
    return path.read_text().splitlines() if path.exists() else []


def dead(worker: WorkerProcess, *arguments: str) -> Any:
    """Run `celeriac dead --json` as a person would in the worker's pod."""
    command = [sys.executable, "-m", "celeriac", "dead", *arguments, "--json"]
    done = subprocess.run(command, cwd=APPS, env=worker.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def declare(rabbitmq: RabbitMQServer, virtual_host: str, name: str, kind: str) -> None:
    arguments = {"x-queue-type": "quorum"} if kind == "quorum" else {}
    rabbitmq.request("PUT", f"queues/{virtual_host}/{name}", {"durable": True, "arguments": arguments})


@pytest.mark.timeout(400)
def test_a_task_that_kills_its_process_becomes_a_dead_letter_that_can_be_requeued(
    start_worker: StartWorker, producer: Celery, tmp_path: Path
) -> None:
    worker = start_worker("awaited:app", worker={"concurrency": 1}, delivery={"maxDeliveries": 3})
    poison = producer.send_task("awaited.die", ("x",))
    with pytest.raises(Exception, match="was given up: delivered 3 times without coming to an end") as caught:
        poison.get(timeout=150)
    assert type(caught.value).__name__ == "DeadLetterError"
    assert lines(tmp_path, "died") == ["x"] * 3
    fine = producer.send_task("awaited.fine")
    fine.get(timeout=150)
    [row] = dead(worker, "list")
    assert (row["queue"], row["task"], row["id"], row["deliveries"]) == ("celery", "awaited.die", poison.id, 3)
    [shown] = dead(worker, "show", row["entry"])
    assert len(shown["history"]) == 3
    (tmp_path / "mended").touch()
    assert dead(worker, "requeue", row["entry"]) == {"requeued": [row["entry"]]}
    assert producer.AsyncResult(poison.id).get(timeout=60) == "mended"
    assert dead(worker, "list") == []


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_a_task_whose_whole_worker_is_killed_counts_too(
    start_worker: StartWorker, producer: Celery, tmp_path: Path, pool: str
) -> None:
    producer.send_task("awaited.die", (pool,))
    for run in (1, 2):
        worker = start_worker("awaited:app", worker={"pool": pool, "concurrency": 1}, delivery={"maxDeliveries": 2})
        eventually(lambda: lines(tmp_path, "died"), lambda it, run=run: len(it) == run, timeout=60)
        worker.wait(30)
    worker = start_worker("awaited:app", worker={"pool": pool, "concurrency": 1}, delivery={"maxDeliveries": 2})
    worker.until(lambda: dead(worker, "list"))
    assert lines(tmp_path, "died") == [pool] * 2


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_no_worker_can_run_is_a_dead_letter_and_the_next_message_runs(
    start_worker: StartWorker,
    producer: Celery,
    rabbitmq: RabbitMQServer,
    virtual_host: str,
    tmp_path: Path,
    kind: str,
) -> None:
    declare(rabbitmq, virtual_host, "celery", kind)
    producer.conf.task_default_queue_type = kind
    with producer.connection_for_write() as connection:
        publisher = connection.Producer()
        for body, headers in (
            (b"[1, 2]", {"task": "deadly.note", "id": "two parts"}),
            (b"\xff\xfe", {"task": "deadly.note", "id": "not JSON"}),
            (b'"text"', {}),
        ):
            publisher.publish(
                body, routing_key="celery", headers=headers, content_type="application/json", content_encoding="utf-8"
            )
    worker = start_worker("deadly:app", environment={"TEST_QUEUE_TYPE": kind}, worker={"concurrency": 1})
    producer.send_task("deadly.note", ("good",))
    worker.until(lambda: lines(tmp_path, "notes"), lambda it: it == ["good"])
    rows = worker.until(lambda: dead(worker, "list"), lambda it: len(it) == 3)
    assert [row["id"] for row in rows] == ["two parts", "not JSON", ""]
    assert dead(worker, "drop", "all")["dropped"] == [row["entry"] for row in rows]


def test_a_task_of_the_next_release_waits_for_a_worker_that_knows_it(
    start_worker: StartWorker, producer: Celery, tmp_path: Path
) -> None:
    old = start_worker("basic:app", worker={"concurrency": 1}).until_ready()
    producer.send_task("deadly.note", ("new",))
    old.until(old.logs, lambda it: "the message goes back in 5 s" in it)
    old.signal(signal.SIGTERM)
    old.wait(30)
    new = start_worker("deadly:app", worker={"concurrency": 1})
    new.until(lambda: lines(tmp_path, "notes"), lambda it: it == ["new"])


def test_messages_that_only_waited_are_handed_back_without_a_count(
    start_worker: StartWorker, producer: Celery, rabbitmq: RabbitMQServer, virtual_host: str, tmp_path: Path
) -> None:
    worker = start_worker("basic:app", worker={"concurrency": 1, "prefetch": 4}, drain={"timeoutSeconds": 30})
    worker.until_ready()
    for _ in range(3):
        producer.send_task("basic.hold", ("go",))
    producer.send_task("basic.note", ("much later",), countdown=3600)
    worker.until(worker.logs, lambda it: it.count("] received") == 4)
    worker.until(worker.status, lambda it: it["busy"] == 1)
    worker.signal(signal.SIGTERM)
    worker.until(worker.logs, lambda it: "handed 3 held messages back" in it)
    (tmp_path / "go").touch()
    assert worker.wait(30) == 0
    with producer.connection_for_read() as connection:
        channel = connection.channel()
        back = [channel.basic_get("celery") for _ in range(3)]
    assert all(it is not None for it in back)
    assert not any("celeriac" in it.headers for it in back)
    assert sum(it.delivery_info["redelivered"] for it in back) == 1, "the one with an ETA"
