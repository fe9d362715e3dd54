"""Redis behind TLS and behind Sentinel, for the tests of both programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import redis
from tests.integration.worker.processes import SERVER, RedisServer, free_port
from tests.waiting import eventually

MASTER = "shop"


def make_authority(directory: Path) -> Path:
    """A directory with the certificate of an authority (`ca.crt`), and one that it made for 127.0.0.1 (`redis`)."""
    directory.mkdir()
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _run_openssl(
        *new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", cwd=directory
    )
    _run_openssl(*new, "-subj", "/CN=redis", "-keyout", "redis.key", "-out", "redis.csr", cwd=directory)
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ["x509", "-req", "-in", "redis.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    _run_openssl(*sign, "-extfile", "names", "-out", "redis.crt", "-days", "2", cwd=directory)
    return directory


def _run_openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def start_tls_server(directory: Path, authority: Path) -> tuple[RedisServer, str]:
    """A redis-server, and the URL of its port that speaks TLS."""
    port = free_port()
    directory.mkdir()
    files = {"tls_cert_file": "redis.crt", "tls_key_file": "redis.key", "tls_ca_cert_file": "ca.crt"}
    options = {name: str(authority / file) for name, file in files.items()}
    server = RedisServer(directory, tls_port=str(port), tls_auth_clients="no", **options).start()
    return server, f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority / 'ca.crt'}"


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
            self.process = subprocess.Popen([SERVER, str(config), "--sentinel"], stdout=log, stderr=log)
        eventually(self.replicas, what="the sentinel answers")

    def replicas(self) -> bool:
        try:
            with redis.Redis(port=self.port, decode_responses=True) as client:
                found: list[object] = client.sentinel_slaves(MASTER)
        except redis.RedisError:
            return False
        return bool(found)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def start_replica(directory: Path, master: RedisServer) -> RedisServer:
    """A redis-server that has everything that its master has."""
    directory.mkdir()
    replica = RedisServer(directory).start()
    replica.client.replicaof("127.0.0.1", master.port)
    eventually(lambda: replica.client.info("replication")["master_link_status"], lambda it: it == "up", timeout=30)
    return replica
