"""What does one liveness check cost the node?

Ours is an HTTP request that the kubelet makes: what it costs the worker's pod is counted, all of it that the worker
uses meanwhile. The peer is `celery inspect ping`, the check that Celery's users put into a probe: the CPU of the
command that it starts, and what the worker asked uses meanwhile. What the kubelet and the container runtime spend is
counted on neither side; for a command it is more. Both workers are idle.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import redis
from celery import Celery
from harness import APPS, Comparison, Worker, a_redis, alternate, eventually, report
from watched import WatchedWorker

REQUESTS = 300
"""Checks of ours in one repeat: the kernel counts CPU time in hundredths of a second."""
PINGS = 3
TICKS = os.sysconf("SC_CLK_TCK")


def used_seconds(pid: int) -> float:
    """CPU time of a process and all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def check_by_http(worker: WatchedWorker) -> float:
    """CPU-milliseconds of one request for /livez."""
    before = used_seconds(worker.process.pid)
    for _ in range(REQUESTS):
        assert worker.get("/livez") == b"ok\n"
    return (used_seconds(worker.process.pid) - before) / REQUESTS * 1000


def check_by_ping(worker: Worker, url: str) -> float:
    """CPU-milliseconds of one `celery inspect ping`."""
    command = [sys.executable, "-m", "celery", "-A", "bench_app:app", "inspect", "ping", "--timeout", "10"]
    command += ["--destination", f"celery@{socket.gethostname()}"]
    environment = {**os.environ, "PYTHONPATH": str(APPS), "BENCH_URL": url}
    before, started = used_seconds(worker.process.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(PINGS):
        answer = subprocess.run(command, cwd=APPS, env=environment, capture_output=True, text=True, check=True)
        assert "pong" in answer.stdout, answer.stdout
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    command_seconds = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    return (command_seconds + used_seconds(worker.process.pid) - before) / PINGS * 1000


def answers_ping(url: str) -> bool:
    with Celery(broker=url, set_as_current=False) as app:
        return bool(app.control.inspect(timeout=1).ping())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    flags = parser.parse_args()
    with a_redis() as server, redis.Redis.from_url(server.url) as client:
        client.flushall()
        # Both are there all the time, as on a node with many pods; each on a database of its own.
        peers_url = server.url.removesuffix("/0") + "/1"
        ours = WatchedWorker(server.url, pool="prefork", concurrency=2)
        peer = Worker(peers_url, ours=False, pool="prefork", concurrency=2, prefetch=1)
        try:
            eventually(lambda: ours.get("/readyz"), timeout=90, what="our worker is up")
            eventually(lambda: answers_ping(peers_url), timeout=90, what="the peer is up")
            comparison = Comparison("probe", "CPU-ms a check", less_is_better=True)
            report(
                alternate(
                    flags.repeats, comparison, lambda: check_by_http(ours), lambda: check_by_ping(peer, peers_url)
                )
            )
        finally:
            for worker in (ours, peer):
                worker.stop()


if __name__ == "__main__":
    main()
