"""How long after the SIGKILL of a worker does its task start elsewhere, with a lease of 10 seconds?

The peer is Celery's default, by configuration and not by waiting for it: a visibility timeout of 3600 s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import redis
from celery import Celery
from harness import Comparison, Worker, a_redis, eventually, report


def measure() -> float:
    with tempfile.NamedTemporaryFile() as notes, a_redis() as server, redis.Redis.from_url(server.url) as client:
        os.environ["BENCH_NOTES"] = notes.name

        def starts() -> int:
            return len(Path(notes.name).read_text().split())

        workers = [
            Worker(server.url, ours=True, pool="threads", concurrency=4, prefetch=2, lease_seconds=10) for _ in range(2)
        ]
        with Celery(broker=server.url, set_as_current=False) as producer:
            producer.send_task("bench_app.note_and_stay", args=(1, 120), ignore_result=True)
        eventually(lambda: starts() == 1, timeout=30)
        eventually(lambda: client.zcard("celeriac:leases:{celery}") == 1)
        holder = next(it for it in workers if (it.directory / "began").exists())
        holder.kill()
        killed = time.monotonic()
        eventually(lambda: starts() == 2, timeout=60, every=0.01)
        seconds = time.monotonic() - killed
        for worker in workers:
            if worker is not holder:
                worker.kill()
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    comparison = Comparison("redelivery", "s", less_is_better=True)
    for _ in range(flags.repeats):
        comparison.ours.append(measure())
        comparison.peer.append(3600)
    report(comparison, {"peer": "Celery's default visibility timeout, on paper"})


if __name__ == "__main__":
    main()
