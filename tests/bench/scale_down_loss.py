"""A pool that shrinks and grows again and again, among kills and restarts of Redis: how many tasks are lost?

10,000 tasks, each with one side effect outside Redis at its end. Plain Celery with late acknowledgement and ours get
the same plan, by the share of the work that is done: 200 times a worker is told to leave as Kubernetes does (SIGTERM,
and SIGKILL when the grace period is over), the newest one, since under load no worker is idle; 50 times a worker is
killed; 10 times Redis, which writes everything to disk, is stopped or killed and started. Each time a new worker comes.

`ours` and `peer` are tasks lost; 0 is best. A task that was done twice is explained when its first run was in a worker
that was killed or around a restart of Redis: its end may have gone unnoticed.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from harness import Worker, a_redis, eventually, left, print_result, print_table

WORKERS = 3
LEASE_SECONDS = 5
DRAIN_SECONDS = 2
GRACE_SECONDS = 5
LONG = 0.03
"""Share of tasks that last longer than a drain, and less than the grace period: plain Celery could finish them all."""
LONG_SECONDS = 3.0
AROUND_SECONDS = 1.0
"""A task's end so shortly before or after a restart of Redis may have gone unnoticed."""


def build_plan(seed: int, tasks: int, **events: int) -> list[tuple[int, str]]:
    """How many tasks are done when what happens."""
    chance = random.Random(seed)  # noqa: S311 - a plan that can be repeated
    kinds = [kind for kind, count in events.items() for _ in range(count)]
    chance.shuffle(kinds)
    return list(zip(sorted(chance.sample(range(tasks // 50, tasks * 95 // 100), len(kinds))), kinds, strict=True))


def seconds_of(number: int) -> float:
    chance = random.Random(number)  # noqa: S311 - the same for both sides
    return LONG_SECONDS if chance.random() < LONG else chance.uniform(0.005, 0.1)


@dataclass
class Pool:
    """The running workers, and those that are stopping."""

    start: Callable[[], Worker]
    workers: list[Worker] = field(default_factory=list)
    leaving: list[tuple[Worker, float]] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)
    overdue: int = 0
    _directories: list[Path] = field(default_factory=list)

    def fill(self) -> None:
        while len(self.workers) < WORKERS:
            self.workers.append(self.start())
            self._directories.append(self.workers[-1].directory)

    def working(self) -> list[Worker]:
        """Those that have begun a task, the newest last; the grace period of others ends meanwhile."""
        self.look()
        return [each for each in self.workers if (each.directory / "began").exists()]

    def look(self) -> None:
        for worker, deadline in list(self.leaving):
            if worker.process.poll() is None and time.monotonic() < deadline:
                continue
            self.leaving.remove((worker, deadline))
            if worker.process.poll() is None:
                self.overdue += 1
                self.kill(worker)

    def shrink(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.process.terminate()
        self.leaving.append((worker, time.monotonic() + GRACE_SECONDS))

    def kill(self, worker: Worker) -> None:
        self.killed.add(worker.directory.name)
        worker.kill()

    def end(self) -> None:
        for worker in [*self.workers, *(each for each, _ in self.leaving)]:
            if worker.process.poll() is None:
                worker.kill()
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)


def publish(url: str, tasks: int) -> None:
    """Send the tasks, each with its number and the seconds that it takes."""
    with Celery(broker=url, set_as_current=False) as application, application.producer_pool.acquire() as producer:
        for number in range(tasks):
            args = (number, seconds_of(number))
            application.send_task("bench_app.work", args=args, producer=producer, ignore_result=True)


def run(ours: bool, tasks: int, plan: list[tuple[int, str]], pool: str, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)  # noqa: S311 - likewise
    restarts: list[tuple[float, float]] = []
    with (
        tempfile.NamedTemporaryFile() as notes,
        a_redis(appendonly="yes") as server,
        redis.Redis.from_url(server.url) as client,
    ):
        os.environ.update(BENCH_NOTES=notes.name, BENCH_VISIBILITY="10")
        publish(server.url, tasks)
        size = {"pool": pool, "concurrency": 4, "prefetch": 2}
        crowd = Pool(
            lambda: Worker(server.url, ours=ours, lease_seconds=LEASE_SECONDS, drain_seconds=DRAIN_SECONDS, **size)
        )
        began = time.monotonic()
        try:
            for at, kind in plan:
                crowd.fill()

                def is_due(at: int = at) -> object:
                    return tasks - left(client) >= at and crowd.working()

                working = eventually(is_due, timeout=300, every=0.005, what="the plan goes on")
                if kind == "shrinks":
                    crowd.shrink(working[-1])
                elif kind == "kills":
                    worker = chance.choice(working)
                    crowd.workers.remove(worker)
                    crowd.kill(worker)
                else:
                    down = time.monotonic()
                    (server.kill if len(restarts) % 2 else server.stop)()
                    time.sleep(chance.uniform(0.1, 1.0))
                    server.start()
                    restarts.append((down - AROUND_SECONDS, time.monotonic() + AROUND_SECONDS))
            crowd.fill()
            deadline = time.monotonic() + 300
            while left(client) and time.monotonic() < deadline:
                crowd.look()
                time.sleep(0.05)
            unsettled = left(client)
        finally:
            crowd.end()
        runs: dict[int, list[tuple[str, float]]] = collections.defaultdict(list)
        for line in Path(notes.name).read_text().splitlines():
            number, worker, moment = line.split()
            runs[int(number)].append((worker, float(moment)))
    doubled = [each[:-1] for each in runs.values() if len(each) > 1]

    def is_explained(worker: str, moment: float) -> bool:
        return worker in crowd.killed or any(first <= moment <= last for first, last in restarts)

    return {
        "lost": max(tasks - len(runs) - unsettled, 0),
        "doubled": len(doubled),
        "of these unexplained": sum(not all(is_explained(*each) for each in earlier) for earlier in doubled),
        "unsettled after 300 s": unsettled,
        "killed when the grace period was over": crowd.overdue,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--shrinks", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--pool", default="threads")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    flags = parser.parse_args()
    print(f"seed {flags.seed}")
    plan = build_plan(flags.seed, flags.tasks, shrinks=flags.shrinks, kills=flags.kills, restarts=flags.restarts)
    sides = {name: run(name == "ours", flags.tasks, plan, flags.pool, flags.seed) for name in ("ours", "peer")}
    print_table(["side", *sides["ours"]], [[name, *map(str, figures.values())] for name, figures in sides.items()])
    ours, peer = sides["ours"], sides["peer"]
    doubled = {"ours": ours["doubled"], "peer": peer["doubled"], "unit": "tasks"}
    print_result(
        "scale-down-loss",
        ours["lost"],
        peer["lost"],
        (peer["lost"] + 1) / (ours["lost"] + 1),
        "tasks lost",
        {"done twice": doubled, "sides": sides, "seed": flags.seed},
    )


if __name__ == "__main__":
    main()
