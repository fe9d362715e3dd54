"""What does observing a worker cost?

Both sides are Celeriac's worker on the same queue. One has its logs at INFO in the pool's format, Sentry (one task in a
hundred fails; a receiver on this machine, whose millisecond for each event counts against us), metrics scraped and
liveness asked once a second, which is more often than anybody does. The other has none of it: no health server, no
counting, no Sentry, and Celery's own logging at WARNING. Tasks wait for ten milliseconds, as those that ask a database
or another service do. The no-op case, which nobody has in production, shows the cost of each task by itself, most of
which is writing two lines of log.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
from celery import Celery
from harness import APPS, Comparison, a_redis, alternate, eventually, free_port, left, report, until_done
from watched import WatchedWorker

RECEIVER = Path(__file__).parents[1] / "receivers" / "sentry_receiver.py"
FAILING_EVERY = 100


@dataclass(frozen=True)
class Case:
    """One kind of work for one kind of pool."""

    pool: str
    concurrency: int
    task: str
    args: tuple[float, ...]
    count: int


CASES = {
    "10 ms, prefork": Case("prefork", 2, "bench_app.pause", (0.01,), 1500),
    "10 ms, threads": Case("threads", 4, "bench_app.pause", (0.01,), 1500),
    "no-op, prefork": Case("prefork", 2, "bench_app.nothing", (), 2000),
}


@contextlib.contextmanager
def a_sentry() -> Iterator[str]:
    """The DSN of a receiver for the run."""
    port = free_port()
    with Path(os.devnull).open("w") as silence:
        process = subprocess.Popen([sys.executable, str(RECEIVER), "--port", str(port)], stdout=silence, stderr=silence)
    try:
        yield f"http://public@127.0.0.1:{port}/1"
    finally:
        process.terminate()
        process.wait(10)


def start(url: str, case: Case, dsn_file: Path | None) -> WatchedWorker:
    """Start a worker with all observation on (a file with a DSN), or with all of it off."""
    if dsn_file is None:
        command = [sys.executable, str(APPS / "unwatched_worker.py")]
        sections = {"logging": {"level": "WARNING", "format": "App"}}
        return WatchedWorker(url, pool=case.pool, concurrency=case.concurrency, sections=sections, command=command)
    sections = {"logging": {"level": "INFO"}, "sentry": {"dsnFile": str(dsn_file)}}
    return WatchedWorker(url, pool=case.pool, concurrency=case.concurrency, sections=sections)


@contextlib.contextmanager
def watching(worker: WatchedWorker) -> Iterator[None]:
    """Scrape and probe once a second."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(1):
            worker.get("/livez")
            worker.get("/metrics")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def measure(url: str, client: redis.Redis, case: Case, dsn_file: Path | None) -> float:
    """Tasks a second."""
    client.flushall()
    with Celery(broker=url, set_as_current=False) as producer, producer.producer_pool.acquire() as it:
        for number in range(case.count):
            # A failing one: the wrong number of arguments.
            args = case.args if number % FAILING_EVERY else (*case.args, 1)
            producer.send_task(case.task, args=args, producer=it, ignore_result=True)
    worker = start(url, case, dsn_file)
    with watching(worker) if dsn_file is not None else contextlib.nullcontext():
        # The clock runs from the first tenth, when all processes are up, to the last settled message.
        eventually(lambda: left(client), lambda it: it <= case.count * 0.9, timeout=120, every=0.005)
        started, first = time.monotonic(), left(client)
        seconds = until_done(client) - started
    worker.stop()
    return first / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", action="append", choices=CASES)
    flags = parser.parse_args()
    done: list[Comparison] = []
    with a_redis() as server, redis.Redis.from_url(server.url) as client, a_sentry() as dsn:
        dsn_file = Path(tempfile.mkdtemp(prefix="celeriac-bench-")) / "dsn"
        dsn_file.write_text(dsn)

        def side(case: Case, file: Path | None) -> Callable[[], float]:
            return lambda: measure(server.url, client, case, file)

        for name in flags.case or CASES:
            print(name, file=sys.stderr)
            comparison = Comparison(name if done else "observability", "tasks/s")
            case = CASES[name]
            done.append(alternate(flags.repeats, comparison, side(case, dsn_file), side(case, None)))
    report(done[0], {"ours": "everything on", "peer": "everything off"}, done[1:])


if __name__ == "__main__":
    main()
