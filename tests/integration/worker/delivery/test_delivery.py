"""Deliveries with real workers: nothing is lost, the dead workers' messages come again, poison is dead-lettered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import APPS, RedisServer, WorkerProcess

from celeriac.delivery import dead
from celeriac.store import keys

POOLS = ["prefork", "threads", "solo", "gevent", "eventlet"]
LEASE = {"leaseSeconds": 5}


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def send(producer: Celery, name: str, *args: object, **options: Any) -> None:
    producer.send_task(name, args=args, ignore_result=True, **options)


def notes(worker: WorkerProcess, file: str = "notes") -> list[str]:
    path = Path(worker.directory) / file
    return path.read_text().split() if path.exists() else []


def held(client: Any, queue: str = "celery") -> int:
    return int(client.hlen(keys.held(queue)))


def nothing_is_left(client: Any, queue: str = "celery") -> bool:
    return not client.exists(queue, keys.held(queue), keys.leases(queue))


# --- what is held


@pytest.mark.parametrize("pool", POOLS)
def test_a_running_task_is_held_and_settled_at_its_end(
    producer: Celery, start_worker: StartWorker, client: Any, pool: str
) -> None:
    worker = start_worker("deadly:app", worker={"pool": pool})
    send(producer, "deadly.note", "a", 1)
    worker.until(lambda: notes(worker))
    assert held(client) == 1
    assert client.zcard(keys.leases("celery")) == 1
    assert client.hlen("unacked") == 0
    worker.until(lambda: nothing_is_left(client))


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_longer_than_the_lease_runs_once(
    producer: Celery, start_worker: StartWorker, client: Any, pool: str
) -> None:
    workers = [start_worker("deadly:app", worker={"pool": pool}, delivery=LEASE) for _ in range(2)]
    send(producer, "deadly.note", "long", 12)
    workers[0].until(
        lambda: nothing_is_left(client) and client.llen("celery") == 0 and any(map(notes, workers)), timeout=30
    )
    assert [line for worker in workers for line in notes(worker)] == ["long"]


@pytest.mark.alone
@pytest.mark.parametrize("pool", POOLS)
def test_a_killed_workers_task_runs_again_soon_after_the_lease(
    producer: Celery, start_worker: StartWorker, client: Any, pool: str
) -> None:
    first = start_worker("deadly:app", worker={"pool": pool}, delivery=LEASE)
    send(producer, "deadly.note", "a", 60)
    first.until(lambda: notes(first))
    second = start_worker("deadly:app", worker={"pool": pool}, delivery=LEASE).until_ready()
    first.clean_up()
    killed = time.monotonic()
    second.until(lambda: notes(second))
    assert time.monotonic() - killed < 5 + 5 / 4 + 2


def test_a_paused_workers_task_runs_elsewhere_and_the_loss_is_said(
    producer: Celery, start_worker: StartWorker, client: Any
) -> None:
    first = start_worker("deadly:app", worker={"pool": "threads"}, delivery=LEASE)
    send(producer, "deadly.note", "a", 9)
    first.until(lambda: notes(first))
    first.pause()
    second = start_worker("deadly:app", worker={"pool": "threads"}, delivery=LEASE)
    second.until(lambda: notes(second))
    first.resume()
    first.until_logged("lost the lease of 1 message")
    second.until(lambda: nothing_is_left(client), timeout=20)


def test_a_message_with_an_eta_is_held_until_then(producer: Celery, start_worker: StartWorker, client: Any) -> None:
    worker = start_worker("deadly:app", worker={"pool": "threads"}, delivery=LEASE)
    send(producer, "deadly.note", "later", countdown=8)
    worker.until(lambda: held(client) == 1)
    worker.until(lambda: notes(worker), timeout=20)
    worker.until(lambda: nothing_is_left(client))
    assert notes(worker) == ["later"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_runs_while_redis_restarts_runs_once(
    producer: Celery, start_worker: StartWorker, client: Any, redis_server: RedisServer, pool: str
) -> None:
    worker = start_worker(
        "deadly:app", worker={"pool": pool}, broker={"retryBackoffSeconds": {"initial": 0.2, "max": 0.5}}
    )
    send(producer, "deadly.note", "a", 4)
    worker.until(lambda: notes(worker))
    redis_server.restart()
    send(producer, "deadly.note", "b")
    worker.until(lambda: len(notes(worker)) == 2, timeout=20)
    worker.until(lambda: nothing_is_left(client), timeout=20)
    assert notes(worker) == ["a", "b"]


# --- queues


def test_priorities_are_taken_in_order_and_queues_in_turn(
    producer: Celery, start_worker: StartWorker, client: Any
) -> None:
    for _ in range(3):
        for queue in ("x", "y"):
            for priority in (9, 0):
                send(producer, "deadly.note", f"{queue}{priority}", queue=queue, priority=priority)
    worker = start_worker("deadly:app", queues=["x", "y"], worker={"pool": "solo", "prefetch": 0})
    worker.until(lambda: len(notes(worker)) == 12)
    got = notes(worker)
    assert sorted(got[:6]) == ["x0"] * 3 + ["y0"] * 3
    assert {got[0], got[1]} == {"x0", "y0"}
    assert sorted(got[6:]) == ["x9"] * 3 + ["y9"] * 3


def test_a_key_prefix_and_another_database_work(start_worker: StartWorker, redis_server: RedisServer) -> None:
    url = redis_server.url.removesuffix("/0") + "/3"
    app = Celery("p", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "shop-"}
    worker = start_worker("deadly:app", environment={"CELERIAC_BROKER_URL": url, "TEST_PREFIX": "shop-"})
    app.send_task("deadly.note", args=("a", 1))
    worker.until(lambda: notes(worker))
    with redis.Redis.from_url(url) as client:
        assert client.exists("shop-celeriac:held:{celery}")
        worker.until(lambda: not client.exists("shop-celeriac:held:{celery}", "shop-celery"))
    app.close()


def test_a_plain_worker_shares_the_queue(producer: Celery, start_worker: StartWorker, client: Any) -> None:
    ours = start_worker("deadly:app", worker={"pool": "threads"}).until_ready()
    plain_command = [sys.executable, "-m", "celery", "-b", ours.environment["CELERIAC_BROKER_URL"], "-A", "deadly:app"]
    plain = start_worker("deadly:app", command=[*plain_command, "worker", "-P", "solo", "-l", "INFO"])
    plain.until_logged("ready")
    for number in range(200):
        send(producer, "deadly.note", str(number), 0.01)
    ours.until(lambda: len(notes(ours)) + len(notes(plain)) == 200, timeout=30)
    assert sorted(map(int, notes(ours) + notes(plain))) == list(range(200))
    assert notes(ours)
    assert notes(plain)
    ours.until(lambda: nothing_is_left(client) and not client.exists("unacked"))


@pytest.mark.timeout(180)
def test_what_a_plain_worker_left_in_kombus_own_keys_is_put_back_when_none_lives(
    producer: Celery, start_worker: StartWorker, client: Any, redis_server: RedisServer
) -> None:
    environment = {"TEST_VISIBILITY_SECONDS": "2"}
    plain_command = [sys.executable, "-m", "celery", "-b", redis_server.url, "-A", "deadly:app", "worker", "-P", "solo"]
    late = ["--prefetch-multiplier=2", "-l", "INFO", "--without-mingle"]
    plain = start_worker("deadly:app", command=[*plain_command, *late], environment=environment)
    for number in range(3):
        send(producer, "deadly.note", str(number), 600)
    plain.until(lambda: notes(plain) and client.hlen("unacked"), what="one runs, and others are held unacknowledged")
    left = client.hlen("unacked") + client.llen("celery")
    plain.clean_up()
    ours = start_worker(
        "deadly:app", worker={"pool": "threads", "concurrency": 3}, environment=environment
    ).until_ready(timeout=40)
    # They are looked for once a minute.
    ours.until(lambda: len(notes(ours)), lambda it: it == left, timeout=120, what="all of them run")
    assert not client.exists("unacked", "unacked_index")


# --- waking up


def test_a_server_that_refuses_tracking_is_polled(
    producer: Celery, start_worker: StartWorker, client: Any, redis_server: RedisServer
) -> None:
    client.acl_setuser(
        "worker",
        enabled=True,
        passwords=["+x"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=["-client"],  # before Redis 7 no part of a command can be refused
    )
    url = redis_server.url.replace("redis://", "redis://worker:x@")
    worker = start_worker("deadly:app", environment={"CELERIAC_BROKER_URL": url})
    worker.until_logged("refuses CLIENT TRACKING")
    for number in range(3):
        send(producer, "deadly.note", str(number))
        worker.until(lambda number=number: len(notes(worker)) == number + 1)


# --- the end of the line


def test_a_task_that_kills_its_process_ends_in_the_dead_letters(
    producer: Celery, start_worker: StartWorker, client: Any, redis_server: RedisServer
) -> None:
    worker = start_worker("deadly:app", delivery={"maxDeliveries": 3})
    send(producer, "deadly.die", task_id="poison")
    worker.until(lambda: client.xlen(keys.dead("celery")) == 1, timeout=30)
    assert len(notes(worker, "died")) == 3
    assert nothing_is_left(client)
    letters = dead.DeadLetters(client)
    [letter] = letters.read()
    entry = letter.dead
    assert (entry.queue, entry.task, entry.id) == ("celery", "deadly.die", "poison")
    details = letter.details()
    assert details["deliveries"] == 3
    assert [event["why"] for event in details["history"]] == ["its task or its process gave it back"] * 3
    assert "delivered 3 times" in entry.why
    assert entry.where.endswith("/pod-1")
    assert {event["where"] for event in details["history"]} == {entry.where}
    assert letters.requeue(letter)
    worker.until(lambda: len(notes(worker, "died")) == 6, timeout=30)


def test_a_message_that_cannot_be_read_is_dead_lettered_and_stops_nobody(
    producer: Celery, start_worker: StartWorker, client: Any
) -> None:
    for text in ("no json", "[1, 2]", '{"body": "x"}'):
        client.lpush("celery", text)
    send(producer, "deadly.note", "good")
    worker = start_worker("deadly:app")
    worker.until(lambda: notes(worker) == ["good"])
    worker.until(lambda: client.xlen(keys.dead("celery")) == 3)
    worker.until(lambda: nothing_is_left(client))


def test_a_task_that_only_a_newer_worker_knows_waits_for_one(
    producer: Celery, start_worker: StartWorker, client: Any
) -> None:
    old = start_worker("old:app", worker={"pool": "solo"}, delivery={"maxDeliveries": 3}).until_ready()
    send(producer, "deadly.note", "new")
    old.until_logged("no task named deadly.note on this worker")
    assert held(client) == 1
    old.terminate()
    old.wait()
    new = start_worker("deadly:app")
    new.until(lambda: notes(new) == ["new"], timeout=20)


def test_the_command_line_lists_shows_requeues_and_drops(
    producer: Celery, start_worker: StartWorker, client: Any, redis_server: RedisServer
) -> None:
    client.lpush("celery", "no json")
    worker = start_worker("deadly:app", delivery={"maxDeliveries": 1})
    send(producer, "deadly.die", task_id="poison")
    worker.until(lambda: client.xlen(keys.dead("celery")) == 2, timeout=30)
    worker.terminate()
    worker.wait()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "celeriac", "dead", *arguments]
        return subprocess.run(command, cwd=APPS, env=worker.environment, capture_output=True, text=True, check=False)

    rows = json.loads(run("list", "--json").stdout)
    assert {row["id"] for row in rows} == {"", "poison"}
    entry = next(row["entry"] for row in rows if row["id"] == "poison")
    unreadable = next(row["entry"] for row in rows if not row["id"])
    assert "deadly.die" in run("list").stdout
    assert "history" not in run("show", entry).stdout
    assert json.loads(run("show", entry, "--json").stdout)[0]["history"]
    missing = run("show", "1-1")
    assert (missing.returncode, "no dead message 1-1" in missing.stderr) == (1, True)
    refused = run("requeue", unreadable)
    assert (refused.returncode, "can only be dropped" in refused.stderr) == (1, True)
    assert run("drop").returncode == 2
    assert run("requeue", entry).stdout.endswith("requeued 1 message(s)\n")
    assert client.llen("celery") == 1
    assert run("drop", "all").stdout.endswith("dropped 1 message(s)\n")
    assert run("list").stdout == "no dead messages\n"
