"""A Redis that answers real workers and refuses: they wait as if it were away, and say why."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.outages.test_refusals import busy, demoted, too_few_replicas, with_rights
from tests.integration.worker.processes import RedisServer, WorkerProcess

from celeriac.exits import Exit
from celeriac.store import keys

QUICK = {"maxRetries": 200, "retryBackoffSeconds": {"initial": 0.2, "max": 0.5}}

CASES: dict[str, tuple[Callable[[RedisServer], contextlib.AbstractContextManager[object]], str]] = {
    "NOREPLICAS": (too_few_replicas, "threads"),
    "READONLY": (demoted, "prefork"),
    "BUSY": (busy, "prefork"),
    "NOPERM": (with_rights("-@scripting"), "gevent"),
}


def notes(worker: WorkerProcess) -> list[str]:
    path = worker.directory / "notes"
    return path.read_text().split() if path.exists() else []


def send(producer: Celery, line: str, seconds: float = 0, **options: Any) -> None:
    producer.send_task("deadly.note", args=(line, seconds), ignore_result=True, **options)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("prefix", CASES)
def test_a_worker_waits_while_redis_refuses_and_no_task_runs_twice(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer, prefix: str
) -> None:
    refuse, pool = CASES[prefix]
    worker = start_worker(
        "deadly:app",
        worker={"pool": pool, "concurrency": 2},
        broker=QUICK,
        delivery={"leaseSeconds": 5, "maxDeliveries": 2},
        without=["CELERIAC_RESULT_BACKEND_URL"],
    ).until_ready()
    send(producer, "long", 9)
    send(producer, "short", 2)
    for number in range(4):
        send(producer, f"waits{number}", 0.1)
    worker.until(lambda: len(notes(worker)) == 2)
    with refuse(redis_server):
        assert "broker has been away" in worker.until_not_ready().body
        worker.until_logged(rf"broker: requests are refused by .*{prefix}|cannot connect to .*{prefix}")
        assert worker.get("/livez").status == 200  # type: ignore[union-attr]
        time.sleep(6)  # it lasts longer than the lease, and both tasks end in it or after it
        assert worker.is_alive()
    worker.until_ready()
    worker.until(lambda: not redis_server.client.exists("celery", keys.held("celery")), what="all is settled")
    assert sorted(notes(worker)) == sorted(["long", "short", *(f"waits{number}" for number in range(4))])
    assert redis_server.client.xlen(keys.dead("celery")) == 0


def test_a_redis_that_goes_on_refusing_is_given_up_with_a_sentence(
    start_worker: StartWorker, redis_server: RedisServer
) -> None:
    few = {"maxRetries": 3, "retryBackoffSeconds": {"initial": 0.1, "max": 0.2}}
    with too_few_replicas(redis_server):
        worker = start_worker("deadly:app", broker=few, without=["CELERIAC_RESULT_BACKEND_URL"])
        assert worker.wait() == Exit.BROKER
    said = worker.termination_message()
    assert said.startswith(f"The broker redis://127.0.0.1:{redis_server.port}/0 refuses requests, giving up after 3 ")
    assert "it has fewer replicas than min-replicas-to-write asks for (NOREPLICAS " in said
    assert "Traceback" not in worker.logs()


def test_at_maxmemory_a_worker_that_starts_waits_and_one_that_runs_works_the_queue_off(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    plain = redis_server.client
    running = start_worker(
        "deadly:app", worker={"pool": "threads"}, broker=QUICK, without=["CELERIAC_RESULT_BACKEND_URL"]
    ).until_ready()
    send(producer, "long", 5)
    for number in range(6):
        send(producer, str(number))
    plain.config_set("maxmemory", 1)
    starting = start_worker(
        "deadly:app", worker={"pool": "threads"}, broker=QUICK, without=["CELERIAC_RESULT_BACKEND_URL"]
    )
    starting.until_logged("broker: requests are refused by .*OOM")
    running.until(lambda: len(notes(running)) == 7)
    running.until(lambda: not plain.exists("celery", keys.held("celery")), what="all is settled")
    plain.config_set("maxmemory", 0)
    starting.until_ready()


def test_a_queue_whose_key_has_a_wrong_type_is_named_and_the_other_queue_goes_on(
    producer: Celery, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    plain = redis_server.client
    plain.hset("reports", "an application's", "own key")
    worker = start_worker(
        "deadly:app",
        queues=["emails", "reports"],
        worker={"pool": "threads"},
        broker=QUICK,
        without=["CELERIAC_RESULT_BACKEND_URL"],
    ).until_ready()
    for number in range(5):
        send(producer, str(number), queue="emails")
    worker.until(lambda: len(notes(worker)) == 5)
    worker.until_logged("cannot take messages from queue 'reports': WRONGTYPE .*other queues are not affected")
    worker.until(lambda: not plain.exists("emails", keys.held("emails")), what="all is settled")
    assert worker.get("/readyz").status == 200  # type: ignore[union-attr]
