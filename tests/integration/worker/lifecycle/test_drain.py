"""How workers leave: nothing is lost, nothing is done twice, and the exit code is 0."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import signal
import sys
import termios
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess
from tests.waiting import eventually

from celeriac.exits import Exit
from celeriac.store import keys

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")


def lines(worker: WorkerProcess, name: str) -> list[str]:
    file = worker.directory / name
    return file.read_text().splitlines() if file.exists() else []


def unread_bytes(child: int) -> int:
    """What a child's pipes hold that it has not read."""
    total = 0
    for link in Path(f"/proc/{child}/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(link.readlink()).startswith("pipe:"):
                continue
            pipe = os.open(link, os.O_RDONLY | os.O_NONBLOCK)
            try:
                total += int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
            finally:
                os.close(pipe)
    return total


def ready_messages(redis_server: RedisServer) -> int:
    """Messages that any worker may take now."""
    return int(redis_server.client.llen("celery"))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])  # gevent stops at the first message beyond its slots
def test_a_running_task_finishes_and_what_is_held_goes_back_at_once(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 1, "prefetch": 2}, drain={"timeoutSeconds": 60})
    worker.until_ready()
    running = producer.send_task("basic.hold", ("released",))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    for n in range(3):
        producer.send_task("basic.note", (str(n),))
    if pool != "solo":  # whose loop stands still while a task runs, so that it holds nothing more
        worker.until(worker.status, lambda it: it["prefetched"] == 2, what="two messages are held")
    worker.terminate()
    answer = worker.until_not_ready()
    assert "draining: 1 tasks run" in answer.body
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    eventually(lambda: ready_messages(redis_server), lambda it: it == 3, what="all three are back")
    assert not running.ready(), "back before the running task has finished"
    (worker.directory / "released").touch()
    assert worker.wait() == Exit.OK
    assert running.get(timeout=1) == "released"
    assert lines(worker, "notes") == []
    assert ready_messages(redis_server) == 3


@pytest.mark.alone
@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_outlasts_the_time_out_is_handed_back_and_runs_elsewhere(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2}, drain={"timeoutSeconds": 2}).until_ready()
    result = producer.send_task("basic.sleep", (10,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(10) == Exit.OK
    assert 1.5 < time.monotonic() - began < 6
    assert re.search(rf"drain: basic\.sleep\[{result.id}\] cut short after 2 s, handed back", worker.logs())
    assert ready_messages(redis_server) == 1
    assert lines(worker, "finished") == []
    other = start_worker(worker={"pool": pool}).until_ready()
    assert result.get(timeout=20) == 10
    assert lines(other, "finished") == ["10"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_message_that_waits_for_its_time_goes_back_at_once(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool}).until_ready()
    producer.send_task("basic.note", ("later",), eta=datetime.now(timezone.utc) + timedelta(hours=1))
    worker.until(worker.status, lambda it: it["scheduled"] == 1, what="the message waits")
    worker.terminate()
    assert worker.wait() == Exit.OK
    assert ready_messages(redis_server) == 1
    assert redis_server.client.zcard("unacked_index") == 0


@pytest.mark.alone
@pytest.mark.parametrize("pool", POOLS)
def test_an_idle_worker_leaves_at_once(pool: str, start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": pool}).until_ready()
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(10) == Exit.OK
    # The loop of the green pools waits for up to two seconds at a time.
    assert time.monotonic() - began < (9 if pool in {"gevent", "eventlet"} else 4)


def test_a_task_that_was_sent_to_a_child_but_has_not_begun_runs_once(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 1}).until_ready()
    (child,) = worker.children()
    os.kill(child, signal.SIGSTOP)  # so that it cannot say that it has begun
    result = producer.send_task("basic.note", ("once",))
    worker.until(lambda: unread_bytes(child), what="the task lies in the child's pipe")
    producer.send_task("basic.note", ("another",))
    worker.until(worker.status, lambda it: it["prefetched"] == 2, what="another one is held")
    worker.terminate()
    eventually(lambda: ready_messages(redis_server), lambda it: it == 1, what="the other one is handed back")
    os.kill(child, signal.SIGCONT)
    assert worker.wait(15) == Exit.OK  # a child whose end goes unnoticed waits for 30 s
    assert result.get(timeout=1) is None
    assert lines(worker, "notes") == ["once"]
    assert ready_messages(redis_server) == 1


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_sigterm_changes_nothing(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool}).until_ready()
    result = producer.send_task("basic.sleep", (3,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    for _ in range(3):
        worker.terminate()
        time.sleep(0.1)  # each one is delivered on its own
    assert worker.wait() == Exit.OK
    assert result.get(timeout=1) == 3


@pytest.mark.parametrize("pool", POOLS)
def test_a_broker_that_is_away_does_not_keep_the_worker_from_leaving(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool}, drain={"timeoutSeconds": 3}).until_ready()
    result = producer.send_task("basic.sleep", (30,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    redis_server.kill()
    worker.terminate()
    assert worker.wait(25) == Exit.OK
    redis_server.start()
    held = redis_server.client.keys("*held*") or redis_server.client.llen("celery")
    assert held, f"the message of {result.id} is neither held under a lease nor ready"


@pytest.mark.parametrize("pool", POOLS)
def test_ctrl_c_drains_too(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool}).until_ready()
    result = producer.send_task("basic.sleep", (2,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    worker.signal(signal.SIGINT)
    assert worker.wait() == Exit.OK
    assert result.get(timeout=1) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_sigterm_drains_whatever_the_image_remaps_it_to(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool}, environment={"REMAP_SIGTERM": "SIGQUIT"}).until_ready()
    result = producer.send_task("basic.sleep", (2,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    worker.terminate()
    assert worker.wait() == Exit.OK
    assert result.get(timeout=1) == 2


def test_each_task_that_is_cut_short_is_named_in_one_line(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": "threads", "concurrency": 3}, drain={"timeoutSeconds": 1}).until_ready()
    results = [producer.send_task("basic.sleep", (60,)) for _ in range(3)]
    worker.until(worker.status, lambda it: it["busy"] == 3, what="three tasks run")
    worker.terminate()
    assert worker.wait(15) == Exit.OK
    for result in results:
        assert worker.logs().count(f"basic.sleep[{result.id}] cut short") == 1
        assert f"basic.sleep[{result.id}] handed back" in worker.termination_message()
    assert worker.termination_message().startswith("drain: 3 tasks cut short after 1 s: basic.sleep[")
    assert ready_messages(redis_server) == 3


def test_what_ends_just_before_or_in_a_drain_that_is_cut_short_is_settled(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    size = {"pool": "threads", "concurrency": 9}
    for _ in range(3):  # moments
        worker = start_worker("deadly:app", worker=size, drain={"timeoutSeconds": 1}).until_ready()
        producer.send_task("deadly.note", ("long", 60))
        worker.until(worker.status, lambda it: it["busy"] == 1, what="the long one runs")
        for n in range(400):
            producer.send_task("deadly.note", (n, 0.02))
        worker.until(lambda it=worker: len(lines(it, "notes")) >= 100, what="many are done")
        worker.terminate()
        assert worker.wait(15) == Exit.OK
        done = len(lines(worker, "notes")) - 1
        assert redis_server.client.hlen(keys.held("celery")) == 0
        assert ready_messages(redis_server) == 401 - done
        redis_server.client.flushall()


def test_a_sigkill_at_any_point_of_the_drain_loses_nothing(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - when to kill
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311 - likewise
    numbers = {str(n) for n in range(150)}
    for n in sorted(numbers, key=int):
        producer.send_task("deadly.note", (n, 0.05))
    workers: list[WorkerProcess] = []
    sections: Any = {"delivery": {"leaseSeconds": 5}, "drain": {"timeoutSeconds": 1}}
    for pool in (*POOLS, "threads"):
        size = {"pool": pool, "concurrency": 2, "prefetch": 6}
        worker = start_worker("deadly:app", worker=size, **sections).until_ready()
        workers.append(worker)
        worker.until(lambda it=worker: len(lines(it, "notes")) >= 5, what="five are done")
        worker.terminate()
        time.sleep(chance.uniform(0, 0.6))  # any point of the drain
        worker.clean_up()
    last = start_worker("deadly:app", worker={"pool": "threads", "concurrency": 4}, **sections)
    workers.append(last)

    def done() -> set[str]:
        return {line for worker in workers for line in lines(worker, "notes")}

    last.until(done, lambda it: it == numbers, timeout=40, what="everything is done")
    last.until(
        lambda: redis_server.client.exists("celery", keys.held("celery")), lambda it: not it, what="nothing is left"
    )


def test_a_task_that_was_acknowledged_before_it_ran_is_named_as_lost(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(
        worker={"pool": "threads"}, delivery={"mode": "AtMostOnce"}, drain={"timeoutSeconds": 1}
    ).until_ready()
    result = producer.send_task("basic.sleep", (20,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    worker.terminate()
    assert worker.wait() == Exit.OK
    assert (
        f"drain: basic.sleep[{result.id}] cut short after 1 s and lost: it was acknowledged before it ran"
        in worker.logs()
    )


def test_a_drain_under_load_loses_and_doubles_nothing(start_worker: StartWorker, producer: Celery) -> None:
    numbers = [str(n) for n in range(400)]
    for n in numbers:
        producer.send_task("basic.note", (n,))
    workers: list[WorkerProcess] = []
    for pool in POOLS:
        worker = start_worker(worker={"pool": pool, "concurrency": 4, "prefetch": 8}).until_ready()
        workers.append(worker)
        so_far = len(lines(worker, "notes"))
        worker.until(
            lambda it=worker: len(lines(it, "notes")), lambda it, n=so_far: it >= n + 20, what="20 more are done"
        )
        worker.terminate()
        assert worker.wait() == Exit.OK
    last = start_worker(worker={"pool": "threads", "concurrency": 4}).until_ready()
    workers.append(last)

    def done() -> list[str]:
        return sorted((line for worker in workers for line in lines(worker, "notes")), key=int)

    eventually(done, lambda it: len(it) >= len(numbers), what="everything is done")
    assert done() == numbers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl+C"])
def test_a_signal_during_the_import_of_the_application_ends_the_worker(
    number: signal.Signals, start_worker: StartWorker
) -> None:
    worker: Any = start_worker("slow:app")
    eventually(lambda: lines(worker, "importing"), what="the import has begun")
    worker.signal(number)
    assert worker.wait() == Exit.OK
