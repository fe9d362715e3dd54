"""The probes of real workers: what makes them fail, and what must not."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import eventually

POOLS = ("prefork", "threads", "solo")


@pytest.mark.parametrize("pool", POOLS)
def test_a_busy_worker_is_alive_and_says_what_it_does(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        worker={"pool": pool, "concurrency": 2, "prefetch": 1}, liveness={"stalledSeconds": 2}
    ).until_ready()
    slots = 1 if pool == "solo" else 2
    sent = [producer.send_task("basic.sleep", (4,)) for _ in range(slots)]
    seen = worker.until(worker.status, lambda it: it["busy"] == slots, what="all slots are busy")
    assert {task["id"] for task in seen["running"]} == {result.id for result in sent}
    assert seen["running"][0]["name"] == "basic.sleep"
    assert "args" not in json.dumps(seen)
    # Longer than stalledSeconds, all slots busy: solo's loop stands still meanwhile.
    worker.until(worker.status, lambda it: it["running"] and it["running"][0]["seconds"] > 3, what="a long task")
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    assert [result.get(timeout=10) for result in sent] == [4] * slots


@pytest.mark.parametrize("pool", POOLS)
def test_a_stopped_main_process_answers_no_probe(pool: str, start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": pool}).until_ready()
    worker.pause()
    assert worker.get("/livez", timeout=1) is None
    worker.resume()
    worker.until_ready()


def test_a_consumer_loop_that_does_not_come_round_is_dead(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("stuck:app", worker={"pool": "threads"}, liveness={"stalledSeconds": 2}).until_ready()
    producer.send_task("stuck.block_the_loop")
    answer = worker.until(
        lambda: worker.get("/livez"), lambda it: it is not None and it.status == 503, what="the loop is missed"
    )
    assert answer is not None
    assert "the consumer loop has not come round for" in answer.body


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_task_past_its_hard_limit_is_ended_by_the_probe_where_celery_cannot(
    pool: str, start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(worker={"pool": pool}, timeLimits={"hardSeconds": 1}).until_ready()
    result = producer.send_task("basic.sleep", (60,))
    answer = worker.until(
        lambda: worker.get("/livez"), lambda it: it is not None and it.status == 503, timeout=25, what="over the limit"
    )
    assert answer is not None
    assert f"task basic.sleep[{result.id}] runs for" in answer.body
    assert "its hard limit is 1 s" in answer.body


def test_a_pool_whose_processes_are_killed_gets_new_ones_and_stays_alive(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 2}).until_ready()
    before = set(worker.children())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    worker.until(worker.children, lambda it: len(it) == 2 and not before & set(it), what="new processes")
    assert worker.status()["processes"] == 2
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    assert producer.send_task("basic.add", (1, 1)).get(timeout=10) == 2


def test_children_do_not_keep_the_port(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 2}).until_ready()
    inode = next(
        line.split()[9]
        for name in ("tcp6", "tcp")
        for line in Path(f"/proc/{worker.pid}/net/{name}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{worker.port:04X}") and line.split()[3] == "0A"
    )
    for pid in worker.children():
        held = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
        assert f"socket:[{inode}]" not in held


def test_metrics_are_labelled_by_pool_and_count_what_runs(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 3}).until_ready()
    producer.send_task("basic.sleep", (3,))
    eventually(lambda: worker.status()["busy"], what="the task runs")
    answer = worker.get("/metrics")
    assert answer is not None
    assert 'celeriac_worker_slots{namespace="default",pool="plain"} 3.0' in answer.body
    assert 'celeriac_worker_busy_slots{namespace="default",pool="plain"} 1.0' in answer.body
    assert 'celeriac_broker_losses_total{namespace="default",pool="plain"} 0.0' in answer.body
    assert "pod=" not in answer.body


@pytest.mark.alone
def test_a_probe_costs_next_to_nothing(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "prefork"}).until_ready()
    ticks = os.sysconf("SC_CLK_TCK")

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before, count = cpu_seconds(), 200
    for _ in range(count):
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/livez", timeout=2) as answer:
            assert answer.status == 200
    each = (cpu_seconds() - before) / count
    assert each < 0.008, f"{each:.4f} CPU-seconds a probe; `celery inspect ping` takes about 0.9"


def test_an_unknown_path_says_which_there_are(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "solo"}).until_ready()
    answer = worker.get("/healthz")
    assert answer is not None
    assert (answer.status, answer.body) == (404, "there are /livez, /readyz, /status and /metrics\n")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_takes_nothing_while_messages_wait_is_dead(
    pool: str, start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(
        "deaf:app", worker={"pool": pool, "concurrency": 2}, liveness={"stalledSeconds": 3}
    ).until_ready()
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    producer.send_task("deaf.add", (1, 1))
    answer = worker.until(
        lambda: worker.get("/livez"), lambda it: it is not None and it.status == 503, what="the worker is called dead"
    )
    assert answer is not None
    assert "messages wait and slots are free, but nothing was taken for" in answer.body


def test_messages_that_wait_behind_busy_slots_make_nobody_dead(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": "prefork", "prefetch": 0}, liveness={"stalledSeconds": 1}).until_ready()
    for _ in range(3):
        producer.send_task("basic.sleep", (4,))
    worker.until(
        worker.status, lambda it: it["running"] and it["running"][0]["seconds"] > 3, what="the first one runs for long"
    )
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
