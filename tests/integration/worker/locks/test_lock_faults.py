"""What celeriac.Lock promises when things go wrong around it: Redis, processes, clocks, a Cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from redis.exceptions import LockError, LockNotOwnedError, RedisError
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, free_port
from tests.waiting import eventually

from celeriac.locks import scripts
from celeriac.locks.lock import Lock
from celeriac.store import keys


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def in_thread(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def until_answering(client: Any) -> None:
    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    eventually(answers)


# --- round trips


def test_a_free_lock_costs_one_round_trip_to_take_and_one_to_let_go(client: Any) -> None:
    with Lock(client, "x", timeout=5):
        pass  # the first time the server does not have the scripts yet
    lock = Lock(client, "x", timeout=5)
    with client.monitor() as monitor:
        client.ping()  # connects, since the monitor has taken the connection
        assert lock.acquire()
        lock.release()
        client.echo("end")
        sent = []
        for it in monitor.listen():
            if it["client_type"] != "lua":
                sent.append(it["command"].split()[0])
            if it["command"].startswith("ECHO"):
                break
    assert sent[sent.index("PING") :] == ["PING", "EVALSHA", "EVALSHA", "ECHO"]


def test_asking_again_after_a_lost_answer_takes_one_place_in_the_line(client: Any) -> None:
    owner = Lock(client, "x", timeout=30)
    owner.acquire()
    names = ["x", keys.fence("x"), keys.waiters("x")]
    for _ in range(2):  # as redis-py does by itself when a connection breaks after the command was sent
        scripts.ACQUIRE.run(client, names, ["me", 5000, "wait", 0, keys.inbox_prefix("x"), ""])
    assert client.llen(keys.waiters("x")) == 1
    owner.release()
    assert client.get("x") == b"me"
    handed = client.lpop(keys.inbox_prefix("x") + "me").decode().partition(":")[0]
    answer = scripts.ACQUIRE.run(client, names, ["me", 5000, "wait", 0, keys.inbox_prefix("x"), ""])
    assert answer.decode() == handed
    assert client.llen(keys.waiters("x")) == 0


# --- Redis


def test_a_lock_survives_a_restart_of_redis(client: Any, redis_server: RedisServer) -> None:
    lock = Lock(client, "x", timeout=60)
    lock.acquire()
    fence = lock.fence or 0
    redis_server.kill()
    redis_server.start()
    until_answering(client)
    assert lock.owned()
    assert not Lock(client, "x").acquire(blocking=False)
    lock.release()  # the server has forgotten its scripts, and gets them again
    with Lock(client, "x", timeout=5) as later:
        assert (later.fence or 0) > fence


def test_a_waiter_is_told_that_redis_is_away_and_does_not_stay_in_the_line(
    client: Any, redis_server: RedisServer
) -> None:
    Lock(client, "x", timeout=60).acquire()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            Lock(client, "x", timeout=5).acquire()
        except RedisError as error:
            raised.append(error)

    waiter = in_thread(wait)
    eventually(lambda: client.llen(keys.waiters("x")) == 1)
    redis_server.kill()
    waiter.join(20)
    assert raised
    redis_server.start()
    until_answering(client)
    # It could not leave the line, so the next hand-over passes it by.
    client.delete("x")
    assert Lock(client, "x", timeout=5).acquire(blocking_timeout=15)


def test_waiting_is_bounded_also_when_redis_hangs(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=1) as client:
        Lock(client, "x", timeout=60).acquire()
        lock = Lock(client, "x", timeout=5)
        ended = threading.Event()

        def wait() -> None:
            try:
                lock.acquire(blocking_timeout=1)
            except RedisError:
                pass
            finally:
                ended.set()

        in_thread(wait)
        eventually(lambda: client.llen(keys.waiters("x")) == 1)
        redis_server.pause()
        try:
            assert ended.wait(30), "still waiting for a Redis that hangs"
        finally:
            redis_server.resume()


# --- processes


def test_a_forked_child_does_not_own_its_parents_lock(client: Any) -> None:
    lock = Lock(client, "x", timeout=30)
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not lock.owned()
            assert lock.fence is None
            try:
                lock.release()
            except LockError:
                assert not lock.acquire(blocking=False)
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lock.owned()
    lock.release()


def test_a_lock_of_a_delivery_that_was_given_back_is_free_at_once(client: Any) -> None:
    dead = Lock(client, "x")  # without a timeout: it would never be free
    dead.acquire(token="task-id@0123456789ab:7")
    other = Lock(client, "x", timeout=5)
    assert not other.acquire(blocking=False)
    client.set(keys.over("0123456789ab:7"), "", ex=60)
    assert other.acquire(blocking=False)
    assert (other.fence or 0) > (dead.fence or 0)
    with pytest.raises(LockNotOwnedError):
        dead.release()
    assert other.owned()


def test_a_hung_owner_keeps_a_renewed_lock_no_longer_than_its_longest_hold(client: Any) -> None:
    hung = Lock(client, "x", timeout=0.5, renew=True, max_hold=1)
    hung.acquire()
    begun = time.monotonic()
    assert Lock(client, "x", timeout=5).acquire(blocking_timeout=30)
    assert time.monotonic() - begun >= 0.9
    assert hung.lost.is_set()


# --- clocks


def test_the_clients_clock_does_not_matter(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(client, "x", timeout=30)
    lock.acquire()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert lock.extend(10)
    assert lock.owned()
    assert not Lock(client, "x", timeout=5).acquire(blocking=False)
    lock.release()
    with Lock(client, "x", timeout=5):
        pass


# --- a Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """A Cluster of one node, which owns all slots: it still refuses keys of different slots in one script."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    server = RedisServer(directory, cluster_enabled="yes", cluster_config_file="nodes.conf")
    while server.port > 55_535:  # a node talks to others on a port 10,000 above
        server.port = free_port()
    server.start()
    try:
        with redis.Redis.from_url(server.url) as node:
            node.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            eventually(lambda: b"cluster_state:ok" in _bytes(node.execute_command("CLUSTER", "INFO")))
        with redis.RedisCluster(host="127.0.0.1", port=server.port) as it:
            yield it
    finally:
        server.kill()


def _bytes(answer: Any) -> bytes:
    """redis-py answers with bytes, text or a dictionary, as its version and the protocol have it."""
    if isinstance(answer, dict):
        return b"\r\n".join(f"{_text(key)}:{_text(value)}".encode() for key, value in answer.items())
    return answer if isinstance(answer, bytes) else str(answer).encode()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("name", ["plain", "lock:{42}", "with space", "käse"])
def test_a_lock_works_on_a_cluster(cluster: Any, name: str) -> None:
    first, second = Lock(cluster, name, timeout=30), Lock(cluster, name, timeout=30, thread_local=False)
    assert first.acquire()
    assert not second.acquire(blocking=False)
    waiter = in_thread(second.acquire)
    eventually(lambda: cluster.llen(keys.waiters(name)) == 1)
    assert first.extend(5)
    fence = first.fence or 0
    first.release()
    waiter.join(20)
    assert (second.fence or 0) > fence
    second.release()
    assert not cluster.exists(name)


# --- workers


@pytest.mark.parametrize("task", ["exclusive", "plain"])
@pytest.mark.parametrize("victim", ["worker", "child"])
def test_a_killed_tasks_lock_is_free_for_its_next_run(
    producer: Celery,
    start_worker: StartWorker,
    redis_server: RedisServer,
    tmp_path: Path,
    task: str,
    victim: str,
) -> None:
    """Once its lease has run out, or its child is known to be dead; the locks would last ten minutes, or for ever."""

    def runs() -> list[str]:
        return (tmp_path / task).read_text().split() if (tmp_path / task).exists() else []

    environment = {"TEST_NOTES": str(tmp_path)}
    workers = [
        start_worker("locked:app", worker={"pool": "prefork"}, delivery={"leaseSeconds": 5}, environment=environment)
        for _ in range(1 if victim == "child" else 2)
    ]
    for worker in workers:
        worker.until_ready()
    producer.send_task(f"locked.{task}", ignore_result=True)
    eventually(lambda: len(runs()) == 1, timeout=30)
    (pid,) = map(int, runs())
    if victim == "child":
        os.kill(pid, signal.SIGKILL)
    else:
        next(it for it in workers if pid in it.children()).clean_up()
    eventually(lambda: len(runs()) == 2, timeout=60, what="the task runs again")
    eventually(lambda: not redis_server.client.hlen(keys.held("celery")), timeout=30)
