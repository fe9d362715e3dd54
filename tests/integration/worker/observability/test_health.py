"""The probes of real workers: what makes them fail, and what must not.

`@row` names the row of docs/operations/health.md that a test covers; a unit test compares the two sets.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.observability.rows import row
from tests.integration.worker.processes import Answer, RedisServer, WorkerProcess, worker_command
from tests.waiting import eventually

from celeriac.health.server import MOST_CONNECTIONS

POOLS = ("prefork", "threads", "solo")
STARTED = 90.0
"""Seconds for a start, also on a busy machine."""


def until_dead(worker: WorkerProcess, timeout: float = 90) -> Answer:
    """Wait until the liveness probe fails; what it says."""
    answer = worker.until(
        lambda: worker.get("/livez", timeout=10),
        lambda it: it is not None and it.status == 503,
        timeout=timeout,
        what="/livez fails",
    )
    assert answer is not None
    return answer


def stays_alive(worker: WorkerProcess, until: Callable[[dict[str, Any]], object], what: str) -> None:
    """Ask the liveness probe again and again until the worker's status is such; it must never fail."""

    def look() -> dict[str, Any]:
        answer = worker.get("/livez", timeout=10)
        assert answer is not None, "/livez does not answer"
        assert answer.status == 200, answer.body
        return worker.status()

    worker.until(look, until, timeout=120, what=what)


@pytest.mark.parametrize("pool", POOLS)
def test_a_busy_worker_is_alive_and_says_what_it_does(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        worker={"pool": pool, "concurrency": 2, "prefetch": 1}, liveness={"stalledSeconds": 2}
    ).until_ready(timeout=STARTED)
    slots = 1 if pool == "solo" else 2
    sent = [producer.send_task("basic.sleep", (4,)) for _ in range(slots)]
    seen = worker.until(worker.status, lambda it: it["busy"] == slots, what="all slots are busy")
    assert {task["id"] for task in seen["running"]} == {result.id for result in sent}
    assert seen["running"][0]["name"] == "basic.sleep"
    assert "args" not in json.dumps(seen)
    # Longer than stalledSeconds, all slots busy: solo's loop stands still meanwhile.
    worker.until(worker.status, lambda it: it["running"] and it["running"][0]["seconds"] > 3, what="a long task")
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    assert [result.get(timeout=STARTED) for result in sent] == [4] * slots


@row("no answer")
@pytest.mark.parametrize("pool", POOLS)
def test_a_stopped_main_process_answers_no_probe(pool: str, start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": pool}).until_ready(timeout=STARTED)
    worker.pause()
    assert worker.get("/livez", timeout=1) is None
    worker.resume()
    worker.until_ready(timeout=STARTED)


@row("the consumer loop stands still")
def test_a_consumer_loop_that_does_not_come_round_is_dead(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("stuck:app", worker={"pool": "threads"}, liveness={"stalledSeconds": 2}).until_ready(
        timeout=STARTED
    )
    producer.send_task("stuck.block_the_loop")
    assert "the consumer loop has not turned for" in until_dead(worker).body


@row("a task is past its hard limit")
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_task_past_its_hard_limit_is_ended_by_the_probe_where_celery_cannot(
    pool: str, start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(worker={"pool": pool}, timeLimits={"hardSeconds": 1}).until_ready(timeout=STARTED)
    result = producer.send_task("basic.sleep", (300,))
    answer = until_dead(worker)
    assert f"task basic.sleep[{result.id}] has run for" in answer.body
    assert "its hard limit is 1 s" in answer.body


@row("the pool's processes are gone")
def test_a_pool_whose_processes_are_gone_and_stay_so_is_dead(start_worker: StartWorker) -> None:
    worker = start_worker(
        "barren:app", worker={"pool": "prefork", "concurrency": 2}, liveness={"stalledSeconds": 3}
    ).until_ready(timeout=STARTED)
    for pid in worker.children():
        os.kill(pid, signal.SIGKILL)
    assert "the pool has had no process for" in until_dead(worker).body


@row("the pool's processes are gone")
def test_a_pool_whose_processes_are_all_stopped_and_stay_so_is_dead(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 2}, liveness={"stalledSeconds": 3}).until_ready(
        timeout=STARTED
    )
    first, second = worker.children()
    os.kill(first, signal.SIGSTOP)
    result = producer.send_task("basic.add", (1, 1))
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    os.kill(second, signal.SIGSTOP)
    assert "the pool has had no process for" in until_dead(worker).body
    for child in (first, second):
        os.kill(child, signal.SIGCONT)
    assert result.get(timeout=STARTED) == 2
    stays_alive(worker, lambda it: it["processes"] == 2, what="all is well again")


def descriptors(worker: WorkerProcess) -> int:
    return sum(1 for _ in Path(f"/proc/{worker.pid}/fd").iterdir())


@row("clients that drip their requests")
def test_dripping_connections_stop_neither_the_probes_nor_the_work(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        worker={"pool": "prefork", "concurrency": 1},
        command=["bash", "-c", f"ulimit -n 256; exec {' '.join(worker_command())}"],
    ).until_ready(timeout=STARTED)
    before = descriptors(worker)
    with contextlib.ExitStack() as stack:
        for _ in range(225):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", worker.port), timeout=10))
            client.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        assert worker.get("/livez", timeout=10).status == 200  # type: ignore[union-attr]
        worker.until(lambda: descriptors(worker), lambda it: it <= before + MOST_CONNECTIONS + 2, what="bounded")
        assert producer.send_task("basic.add", (1, 1)).get(timeout=STARTED) == 2
        # Nobody sends anything more: each connection that is left ends at its time.
        worker.until(lambda: descriptors(worker), lambda it: it <= before + 1, what="all ended")
    assert worker.get("/readyz").status == 200  # type: ignore[union-attr]


@pytest.mark.timeout(300)
@row("a drain outlasts its time-out")
def test_a_worker_that_does_not_end_after_its_drain_is_dead(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("clinging:app", worker={"pool": "threads"}, drain={"timeoutSeconds": 1}).until_ready(
        timeout=STARTED
    )
    producer.send_task("clinging.sleep", (600,))
    worker.until(worker.status, lambda it: it["busy"], timeout=STARTED, what="the task runs")
    worker.terminate()
    answer = until_dead(worker, timeout=150)  # thirty seconds of margin are part of the rule
    assert "the time-out is 1 s" in answer.body


def test_a_pool_whose_processes_are_killed_gets_new_ones_and_stays_alive(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 2}).until_ready(timeout=STARTED)
    before = set(worker.children())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    worker.until(worker.children, lambda it: len(it) == 2 and not before & set(it), what="new processes")
    worker.until(worker.status, lambda it: it["processes"] == 2, what="both are alive")
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    assert producer.send_task("basic.add", (1, 1)).get(timeout=STARTED) == 2


def test_children_do_not_keep_the_port(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 2}).until_ready(timeout=STARTED)
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
    worker = start_worker(worker={"pool": "prefork", "concurrency": 3}).until_ready(timeout=STARTED)
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
    worker = start_worker(worker={"pool": "prefork"}).until_ready(timeout=STARTED)
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
    worker = start_worker(worker={"pool": "solo"}).until_ready(timeout=STARTED)
    answer = worker.get("/healthz")
    assert answer is not None
    assert (answer.status, answer.body) == (404, "there are /livez, /readyz, /status and /metrics\n")


@row("messages wait and nothing is taken")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_takes_nothing_while_messages_wait_is_dead(
    pool: str, start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(
        "deaf:app", worker={"pool": pool, "concurrency": 2}, liveness={"stalledSeconds": 3}
    ).until_ready(timeout=STARTED)
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    producer.send_task("deaf.add", (1, 1))
    answer = worker.until(
        lambda: worker.get("/livez"), lambda it: it is not None and it.status == 503, what="the worker is called dead"
    )
    assert answer is not None
    assert "messages wait and slots are free, but nothing was taken for" in answer.body


# --- what must not make it fail


@row("the broker is away")
@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_whose_broker_is_away_is_alive_and_not_ready(
    pool: str, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool}, liveness={"stalledSeconds": 2}).until_ready(timeout=STARTED)
    redis_server.stop()
    stays_alive(worker, lambda it: (it["broker_away_seconds"] or 0) > 6, "the broker is away for thrice the limit")
    answer = worker.get("/readyz", timeout=10)
    assert answer is not None
    assert answer.status == 503
    assert "the broker has been away for" in answer.body


@row("the broker is away")
def test_a_worker_that_starts_without_its_broker_is_alive_and_not_ready(
    start_worker: StartWorker, redis_server: RedisServer
) -> None:
    redis_server.stop()
    worker = start_worker(worker={"pool": "prefork"}, liveness={"stalledSeconds": 2})
    worker.until(lambda: worker.get("/livez", timeout=10), timeout=STARTED, what="the probe answers")
    stays_alive(worker, lambda it: (it["broker_away_seconds"] or 0) > 6, "the broker is away for thrice the limit")


@row("a task is long")
@pytest.mark.parametrize("pool", POOLS)
def test_a_long_task_within_its_limit_makes_nobody_dead(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        worker={"pool": pool}, liveness={"stalledSeconds": 2}, timeLimits={"hardSeconds": 300}
    ).until_ready(timeout=STARTED)
    producer.send_task("basic.sleep", (300,))
    stays_alive(
        worker, lambda it: it["running"] and it["running"][0]["seconds"] > 6, "a task runs for thrice the limit"
    )


@row("all slots are busy")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_messages_that_wait_behind_busy_slots_make_nobody_dead(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool, "prefetch": 0}, liveness={"stalledSeconds": 2}).until_ready(
        timeout=STARTED
    )
    for _ in range(3):
        producer.send_task("basic.sleep", (300,))
    stays_alive(
        worker, lambda it: it["running"] and it["running"][0]["seconds"] > 6, "the first one runs for thrice the limit"
    )
    assert redis_server.client.llen("celery") == 2


@row("the start is slow")
def test_a_slow_start_makes_nobody_dead(start_worker: StartWorker) -> None:
    worker = start_worker("late:app", worker={"pool": "prefork"}, liveness={"stalledSeconds": 1})
    first = worker.until(lambda: worker.get("/readyz", timeout=10), timeout=STARTED, what="the probe answers")
    assert first is not None
    assert (first.status, first.body) == (503, "starting; not consuming yet\n")
    stays_alive(worker, lambda it: it["ready"], "the worker is up")
    assert worker.status()["uptime_seconds"] > 5


@row("the worker drains")
@pytest.mark.parametrize("pool", ["prefork", "threads"])  # solo handles a signal only between two steps of Python
def test_a_drain_makes_nobody_dead(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        worker={"pool": pool}, liveness={"stalledSeconds": 2}, drain={"timeoutSeconds": 300}
    ).until_ready(timeout=STARTED)
    producer.send_task("basic.sleep", (300,))
    worker.until(worker.status, lambda it: it["busy"], timeout=STARTED, what="the task runs")
    worker.terminate()
    stays_alive(worker, lambda it: (it["draining_seconds"] or 0) > 6, "it drains for thrice the limit")
    answer = worker.get("/readyz", timeout=10)
    assert answer is not None
    assert "draining" in answer.body
