"""How soon does an idle worker start a task, compared with plain Celery's BRPOP?

One message at a time goes to a worker that has nothing else to do; the task writes down the moment at which it began,
and the delay is counted from just before the message is sent. Both run the threads pool on the same redis-server. The
details say what the idle worker sends to Redis meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import redis
from celery import Celery
from harness import Comparison, Worker, a_redis, alternate, eventually, left, report

IDLE_SECONDS = 10


def delays(url: str, client: redis.Redis, worker: Worker, count: int) -> list[float]:
    """From sending to the start of the task, in ms, for each of `count` messages."""
    found = []
    began = worker.directory / "moments"
    with Celery(broker=url, set_as_current=False) as producer, producer.producer_pool.acquire() as it:
        for number in range(count):
            sent = time.monotonic()
            producer.send_task("bench_app.moment", producer=it, ignore_result=True)
            lines = eventually(
                lambda: began.read_text().split() if began.exists() else [],
                lambda it, number=number: len(it) > number,
                timeout=60,
                every=0.002,
            )
            found.append((float(lines[number]) - sent) * 1000)
            eventually(lambda: left(client), lambda it: it == 0, timeout=60, every=0.002)
            time.sleep(0.02)  # the worker goes back to waiting
    return found


def measure(url: str, client: redis.Redis, count: int, *, ours: bool) -> tuple[list[float], float]:
    """The delays, and the commands a second that Redis has run for the idle worker, those of scripts included."""
    client.flushall()
    worker = Worker(url, ours=ours, pool="threads", concurrency=2, prefetch=2)
    try:
        delays(url, client, worker, 5)  # until it is up and everything is imported
        (worker.directory / "moments").unlink()
        found = delays(url, client, worker, count)
        before = client.info("stats")["total_commands_processed"]
        time.sleep(IDLE_SECONDS)
        commands = client.info("stats")["total_commands_processed"] - before - 1
    finally:
        worker.stop()
    return found, commands / IDLE_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--messages", type=int, default=100)
    flags = parser.parse_args()
    details: dict[str, list[float]] = {}
    with a_redis() as server, redis.Redis.from_url(server.url) as client:

        def side(name: str) -> Callable[[], float]:
            def median() -> float:
                found, commands = measure(server.url, client, flags.messages, ours=name == "ours")
                ninety_fifth = sorted(found)[int(len(found) * 0.95)]
                details.setdefault(f"{name}, p95, ms", []).append(ninety_fifth)
                details.setdefault(f"{name}, idle, commands/s", []).append(commands)
                return statistics.median(found)

            return median

        comparison = Comparison("wakeup", "ms (p50)", less_is_better=True)
        alternate(flags.repeats, comparison, side("ours"), side("peer"))
    report(comparison, {name: round(statistics.median(values), 2) for name, values in details.items()})


if __name__ == "__main__":
    sys.exit(main())
