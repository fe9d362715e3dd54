"""Tasks with a side effect outside Redis, a worker that is killed repeatedly: how many tasks are lost or run twice?

Plain Celery with late acknowledgement and ours get the same plan: SIGKILL of the worker and its children after random
spans of work, and a new worker at once, until every message is settled. `ours` and `peer` are tasks lost; 0 is best.
Every repetition of ours must be of a task that was held at a kill.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import tempfile
import time
from pathlib import Path

import redis
from celery import Celery
from harness import Worker, a_redis, eventually, left, print_result, print_table


def run(ours: bool, tasks: int, kills: int, pool: str, seed: int) -> dict[str, float]:
    chance = random.Random(seed)  # noqa: S311 - a plan that can be repeated
    with tempfile.NamedTemporaryFile() as notes, a_redis() as server, redis.Redis.from_url(server.url) as client:
        os.environ.update(BENCH_NOTES=notes.name, BENCH_VISIBILITY="5")
        with Celery(broker=server.url, set_as_current=False) as producer, producer.producer_pool.acquire() as it:
            for number in range(tasks):
                producer.send_task("bench_app.note", args=(number,), producer=it, ignore_result=True)
        done_kills, held_at_kills = 0, 0

        def start() -> Worker:
            return Worker(server.url, ours=ours, pool=pool, concurrency=4, prefetch=2, lease_seconds=5)

        worker = start()
        started = time.monotonic()
        try:
            while left(client):
                share = tasks / kills * chance.uniform(0.3, 1.1)
                target = max(0.0, client.llen("celery") - share)
                eventually(
                    lambda target=target: client.llen("celery") <= target or not left(client), timeout=120, every=0.002
                )
                if done_kills < kills and client.llen("celery"):
                    time.sleep(chance.uniform(0, 0.02))
                    worker.kill()
                    done_kills += 1
                    held_at_kills += client.hlen("celeriac:held:{celery}") + client.hlen("unacked")
                    worker = start()
                else:
                    eventually(lambda: left(client) == 0, timeout=120)
        finally:
            worker.kill()
        counts = collections.Counter(map(int, Path(notes.name).read_text().split()))
    return {
        "kills": done_kills,
        "lost": tasks - len(counts),
        "doubled": sum(count > 1 for count in counts.values()),
        "held at kills": held_at_kills,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pool", default="threads")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    flags = parser.parse_args()
    print(f"seed {flags.seed}")
    sides = {name: run(name == "ours", flags.tasks, flags.kills, flags.pool, flags.seed) for name in ("ours", "peer")}
    print_table(["side", *sides["ours"]], [[name, *map(str, figures.values())] for name, figures in sides.items()])
    ours, peer = sides["ours"], sides["peer"]
    unexplained = max(0, ours["doubled"] - ours["held at kills"])
    print_result(
        "kill-loss",
        ours["lost"],
        peer["lost"],
        (peer["lost"] + 1) / (ours["lost"] + 1),
        "tasks lost",
        {**sides, "doubled by us and not held at a kill": unexplained, "seed": flags.seed},
    )


if __name__ == "__main__":
    main()
