"""Deliveries behind TLS and behind Sentinel, also when another server becomes the master."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess, eventually, free_port

from celeriac import keys

MASTER = "shop"


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


def run_openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A directory with the certificate of an authority (`ca.crt`), and one that it made for 127.0.0.1 (`redis`)."""
    it = tmp_path / "authority"
    it.mkdir()
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run_openssl(*new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", cwd=it)
    run_openssl(*new, "-subj", "/CN=redis", "-keyout", "redis.key", "-out", "redis.csr", cwd=it)
    (it / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ["x509", "-req", "-in", "redis.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    run_openssl(*sign, "-extfile", "names", "-out", "redis.crt", "-days", "2", cwd=it)
    return it


@pytest.fixture
def tls_server(tmp_path: Path, authority: Path) -> Iterator[tuple[RedisServer, str]]:
    """A redis-server, and the URL of its port that speaks TLS."""
    port = free_port()
    directory = tmp_path / "tls"
    directory.mkdir()
    files = {"tls_cert_file": "redis.crt", "tls_key_file": "redis.key", "tls_ca_cert_file": "ca.crt"}
    options = {name: str(authority / file) for name, file in files.items()}
    server = RedisServer(directory, tls_port=str(port), tls_auth_clients="no", **options).start()
    yield server, f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority / 'ca.crt'}"
    server.kill()


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
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
    assert tracking, "it hears of messages instead of asking for them"


class Sentinel:
    """One sentinel that watches one master, which it may replace by itself."""

    def __init__(self, directory: Path, master: RedisServer) -> None:
        self.port = free_port()
        config = directory / "sentinel.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {directory}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n"
        )
        with (directory / "sentinel.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", str(config), "--sentinel"], stdout=log, stderr=log)
        eventually(self.replicas, what="the sentinel answers")

    def replicas(self) -> bool:
        try:
            found: list[object] = redis.Redis(port=self.port, decode_responses=True).sentinel_slaves(MASTER)
        except redis.RedisError:
            return False
        return bool(found)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.mark.timeout(150)
def test_a_worker_behind_sentinel_follows_the_master(
    start_worker: StartWorker, redis_server: RedisServer, tmp_path: Path
) -> None:
    directory = tmp_path / "replica"
    directory.mkdir()
    replica = RedisServer(directory, replicaof=f"127.0.0.1 {redis_server.port}").start()
    eventually(lambda: replica.client.info("replication")["master_link_status"], lambda it: it == "up", timeout=30)
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
        eventually(lambda: replica.client.info("replication")["role"], lambda it: it == "master", timeout=60)
        send(replica, "after")
        worker.until(lambda: notes(worker) == ["before", "after"] and nothing_is_left(replica), timeout=60)
    finally:
        sentinel.stop()
        replica.kill()
