"""What a real worker says of its work: a worker that answers its probes may fail every task."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import WorkerProcess

STARTED = 90.0
POOLS = ("prefork", "threads", "gevent", "solo")


def until_work(worker: WorkerProcess, what: str, **wanted: int) -> dict[str, Any]:
    """Wait until the status has these numbers; returns it."""

    def is_there(work: dict[str, Any]) -> bool:
        return all(work[name] == number for name, number in wanted.items())

    return worker.until(lambda: worker.status()["work"], is_there, timeout=90, what=what)


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_whose_tasks_all_fail_says_so(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2}, timeLimits={"hardSeconds": 3}).until_ready(
        timeout=STARTED
    )
    sent = [producer.send_task("basic.fail", (f"secret-{number}",)) for number in range(25)]
    producer.send_task("basic.add", (1, 2))
    work = until_work(worker, "25 tasks have failed and one has succeeded", failed=25, succeeded=1)
    assert (len(work["failures"]), work["dead_letters"], work["window_seconds"]) == (20, 0, 900)
    assert {it["id"] for it in work["failures"]} <= {result.id for result in sent}
    assert {(it["task"], it["exception"]) for it in work["failures"]} == {("basic.fail", "ValueError")}
    assert "secret" not in str(worker.status())


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_running_task_is_named_with_its_age_and_limit(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2}, timeLimits={"hardSeconds": 600}).until_ready(
        timeout=STARTED
    )
    sent = producer.send_task("basic.hold", ("never",))
    work = worker.until(lambda: worker.status()["work"], lambda it: it["oldest"], timeout=60, what="it runs")
    oldest = work["oldest"]
    assert (oldest["name"], oldest["id"], oldest["hard_limit_seconds"]) == ("basic.hold", sent.id, 600)
    assert (work["stuck"], work["stuck_task"]) == (0, None)


def test_a_lost_process_and_its_dead_letter_are_counted(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 1}, delivery={"maxDeliveries": 1}).until_ready(
        timeout=STARTED
    )
    producer.send_task("basic.hold", ("never",))
    worker.until(lambda: worker.status()["busy"], timeout=60, what="the task runs")
    os.kill(worker.children()[0], signal.SIGKILL)
    work = until_work(worker, "the message is a dead letter", failed=1, dead_letters=1)
    assert work["failures"][0]["exception"] == "WorkerLostError"


def test_a_worker_without_a_broker_says_why(start_worker: StartWorker) -> None:
    worker = start_worker(environment={"CELERIAC_BROKER_URL": "redis://:hunter2@127.0.0.1:1/0"})
    seen = worker.until(
        worker.status_if_any, lambda it: it and it["broker_error"], timeout=90, what="an attempt failed"
    )
    assert "Connection refused" in seen["broker_error"]
    assert "hunter2" not in str(seen)
