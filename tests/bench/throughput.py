"""How many tasks per second does a worker with all features run, compared with bare Celery?

Both run the same application with late acknowledgement on the same redis-server. Bare Celery's window is slots times
`worker_prefetch_multiplier`; ours is set to hold the same number.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from celery import Celery
from harness import Comparison, Worker, a_redis, alternate, eventually, left, report, until_done


@dataclass(frozen=True)
class Case:
    """One kind of work for one kind of pool."""

    pool: str
    concurrency: int
    task: str
    args: tuple[float, ...]
    count: int
    prefetch: int = 2


CASES = {
    "no-op, threads": Case("threads", 4, "bench_app.nothing", (), 4000),
    "no-op, prefork": Case("prefork", 2, "bench_app.nothing", (), 4000),
    # Longer, for what is to be told apart here is small beside the 20 ms in which the end is looked for.
    "10 ms, threads": Case("threads", 4, "bench_app.pause", (0.01,), 4000),
    "10 ms, prefork": Case("prefork", 2, "bench_app.pause", (0.01,), 2000),
}


def measure(url: str, client: redis.Redis, case: Case, *, ours: bool) -> tuple[float, float]:
    """Tasks a second, and the worker's memory in MiB."""
    client.flushall()
    with Celery(broker=url, set_as_current=False) as producer, producer.producer_pool.acquire() as it:
        for _ in range(case.count):
            producer.send_task(case.task, args=case.args, producer=it, ignore_result=True)
    worker = Worker(url, ours=ours, pool=case.pool, concurrency=case.concurrency, prefetch=case.prefetch)
    # The clock runs from the first tenth, when all processes are up, to the last settled message.
    eventually(lambda: left(client), lambda it: it <= case.count * 0.9, timeout=60, every=0.005)
    started, first = time.monotonic(), left(client)
    seconds = until_done(client) - started
    memory = worker.resident_mib()
    worker.stop()
    return first / seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", action="append", choices=CASES)
    flags = parser.parse_args()
    memory: dict[str, float] = {}
    done: list[Comparison] = []
    with a_redis() as server, redis.Redis.from_url(server.url) as client:

        def side(name: str, *, ours: bool) -> Callable[[], float]:
            def rate() -> float:
                tasks_a_second, mib = measure(server.url, client, CASES[name], ours=ours)
                memory[f"{name}, {'ours' if ours else 'peer'}, MiB"] = round(mib, 1)
                return tasks_a_second

            return rate

        for name in flags.case or CASES:
            print(name, file=sys.stderr)
            comparison = Comparison(name if done else "throughput", "tasks/s")
            done.append(alternate(flags.repeats, comparison, side(name, ours=True), side(name, ours=False)))
    report(done[0], memory, done[1:])


if __name__ == "__main__":
    main()
