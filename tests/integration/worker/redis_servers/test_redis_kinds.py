"""Deliveries behind TLS, behind a Unix socket and behind Sentinel, also when another server becomes the master."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.integration.worker.commands.test_doctor import run_doctor
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess
from tests.integration.worker.servers import MASTER, Sentinel, make_authority, start_replica, start_tls_server
from tests.waiting import eventually

from celeriac import Lock
from celeriac.store import connections, keys


def notes(worker: WorkerProcess) -> list[str]:
    file = worker.directory / "notes"
    return file.read_text().split() if file.exists() else []


def send(server: RedisServer, line: str, seconds: float = 0) -> None:
    with Celery(broker=server.url, set_as_current=False) as app:
        app.send_task("deadly.note", args=(line, seconds), ignore_result=True)


def is_held(server: RedisServer) -> bool:
    return bool(server.client.hlen(keys.held("celery")) and server.client.zcard(keys.leases("celery")))


def nothing_is_left(server: RedisServer) -> bool:
    return not server.client.exists("celery", keys.held("celery"), keys.leases("celery"))


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    try:
        server, url = start_tls_server(tmp_path / "tls", make_authority(tmp_path / "authority"))
    except AssertionError as error:
        # What Redis 6 and Valkey 9 say before they end. The machine's own server must know TLS.
        if "TEST_REDIS_SERVER" in os.environ and re.search("Bad directive|Failed finding TLS support", str(error)):
            pytest.skip("this server was built without TLS")
        raise
    yield server, url
    server.kill()


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet"])
def test_messages_are_held_and_settled_over_tls(
    pool: str, start_worker: StartWorker, tls_server: tuple[RedisServer, str]
) -> None:
    server, url = tls_server
    environment = {"CELERIAC_BROKER_URL": url, "CELERIAC_RESULT_BACKEND_URL": url}
    worker = start_worker("deadly:app", worker={"pool": pool}, environment=environment).until_ready(timeout=40)
    send(server, "a", 1)
    worker.until(lambda: is_held(server), timeout=30)
    worker.until(lambda: notes(worker) == ["a"] and nothing_is_left(server), timeout=30)
    tracking = [it for it in server.client.client_list() if "t" in it["flags"]]
    assert tracking, "it is notified of messages and does not poll"


@pytest.fixture
def socket_url(tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    # The kernel takes paths of up to 107 characters; a test's own folder may be deeper.
    with tempfile.TemporaryDirectory() as short:
        path = f"{short}/redis.sock"
        server = RedisServer(tmp_path, unixsocket=path).start()
        yield server, f"redis+socket://{path}"
        server.kill()


def test_a_socket_of_redis_is_redis_for_everybody(
    start_worker: StartWorker, socket_url: tuple[RedisServer, str]
) -> None:
    server, url = socket_url
    environment = {"CELERIAC_BROKER_URL": url, "CELERIAC_RESULT_BACKEND_URL": url}
    worker = start_worker("deadly:app", worker={"pool": "threads"}, environment=environment).until_ready(timeout=40)
    send(server, "a", 1)
    worker.until(lambda: is_held(server), timeout=30)
    worker.until(lambda: notes(worker) == ["a"] and nothing_is_left(server), timeout=30)
    assert "leases-off" not in worker.logs()

    with Celery(broker=url, set_as_current=False) as app:
        store = connections.store(app)
        assert store.is_broker
        with Lock(store.client, "report", timeout=10):
            assert server.client.exists("report")

    answer = run_doctor("--app", "deadly:app", "--json", url=url)
    printed = json.loads(answer.stdout)
    assert "delivery.leaseSeconds" in {it["name"] for it in printed["settings"]}
    assert "leases-off" not in {it["code"] for it in printed["findings"]}


def role_of(server: RedisServer) -> str:
    """Its role; empty while Sentinel, which promotes it, closes the connections of its clients."""
    try:
        return str(server.client.info("replication")["role"])
    except RedisConnectionError:
        return ""


@pytest.mark.timeout(150)
def test_a_worker_behind_sentinel_follows_the_master(
    start_worker: StartWorker, redis_server: RedisServer, tmp_path: Path
) -> None:
    replica = start_replica(tmp_path / "replica", redis_server)
    sentinel = Sentinel(tmp_path, redis_server)
    try:
        worker = start_worker(
            "deadly:app",
            worker={"pool": "threads"},
            delivery={"leaseSeconds": 5},
            broker={"maxRetries": 200, "retryBackoffSeconds": {"initial": 0.2, "max": 1}},
            environment={"CELERIAC_BROKER_URL": f"sentinel://127.0.0.1:{sentinel.port}/0", "TEST_MASTER": MASTER},
            without=["CELERIAC_RESULT_BACKEND_URL"],
        ).until_ready(timeout=40)
        send(redis_server, "before", 1)
        worker.until(lambda: is_held(redis_server), timeout=30)
        worker.until(lambda: notes(worker) == ["before"] and nothing_is_left(redis_server), timeout=30)
        redis_server.kill()
        eventually(lambda: role_of(replica), lambda role: role == "master", timeout=60)
        send(replica, "after")
        worker.until(lambda: notes(worker) == ["before", "after"] and nothing_is_left(replica), timeout=60)
    finally:
        sentinel.stop()
        replica.kill()
