"""Whom the operator asks, how often, and when a pool is reconciled for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac_operator.asking import rounds
from celeriac_operator.asking.rounds import Workers
from celeriac_operator.decide.work import Asked
from celeriac_operator.memory.caches import Key
from celeriac_operator.metrics import Metrics
from celeriac_operator.workqueue import WorkQueue

KEY = Key("shop", "emails")


class Pools:
    """Stands for the caches."""

    def __init__(self, *workers: Asked) -> None:
        self.workers = {worker.uid: worker for worker in workers}
        self.pools = self

    def askable(self) -> Iterator[tuple[Key, Asked]]:
        return ((KEY, worker) for worker in self.workers.values())

    def known(self) -> list[Key]:
        return [KEY]

    def __len__(self) -> int:
        return 1


class Bench:
    """Workers that reply as they are told, and a clock."""

    def __init__(self, *workers: Asked) -> None:
        self.caches = Pools(*workers)
        self.queue: WorkQueue[Key] = WorkQueue()
        self.metrics = Metrics()
        self.seconds = 0.0
        self.replies: dict[str, dict[str, Any] | None] = {}
        self.asked: list[tuple[float, str]] = []
        self.rounds = Workers(
            self.caches,  # type: ignore[arg-type]  # all that it calls is there
            self.queue,
            self.metrics,
            lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds),
            ask=self.ask,
            clock=lambda: self.seconds,
        )

    async def ask(self, url: str) -> bytes | None:
        self.asked.append((self.seconds, url))
        reply = self.replies.get(url, {"busy": 0, "slots": 2, "consuming": True})
        return None if reply is None else json.dumps(reply).encode()

    async def run(self, seconds: int) -> None:
        """Let a tick a second pass."""
        for _ in range(seconds):
            for worker in self.rounds.due():
                await self.rounds.ask(worker)
            self.rounds.tell()
            self.seconds += 1

    def times(self, url: str) -> list[float]:
        return [at for at, asked in self.asked if asked == url]

    async def reconciled(self) -> bool:
        if not self.queue.depth():
            return False
        key = await self.queue.get()
        self.queue.done(key)
        self.queue.forget(key)
        return True


def a_worker(name: str, *, ready: bool = True) -> Asked:
    return Asked(uid=name, name=name, url=name, is_ready=ready)


async def test_ready_workers_are_asked_every_ten_seconds_and_others_every_three() -> None:
    bench = Bench(a_worker("a"), a_worker("b", ready=False))
    await bench.run(31)
    assert bench.times("a") == [0, 10, 20, 30]
    assert bench.times("b") == list(range(0, 31, 3))


async def test_a_worker_that_becomes_unready_is_asked_within_three_seconds() -> None:
    bench = Bench(a_worker("a"))
    await bench.run(12)
    bench.caches.workers["a"] = a_worker("a", ready=False)
    await bench.run(5)
    assert bench.times("a") == [0, 10, 15]


async def test_a_worker_that_does_not_reply_is_asked_less_and_less() -> None:
    bench = Bench(a_worker("a"))
    bench.replies["a"] = None
    await bench.run(200)
    assert bench.times("a") == [0, 10, 30, 70, 130, 190]


async def test_many_workers_are_asked_in_turn_and_none_is_left_out() -> None:
    bench = Bench(*(a_worker(f"w{number}") for number in range(3000)))
    await bench.run(30)
    assert max(sum(at == second for at, _ in bench.asked) for second in range(30)) == rounds.A_TICK
    assert len({url for _, url in bench.asked}) == 3000


async def test_nothing_is_known_until_every_worker_was_asked() -> None:
    bench = Bench(a_worker("a"), a_worker("b"))
    assert bench.rounds.reports(KEY) is None
    first, second = bench.rounds.due()
    await bench.rounds.ask(first)
    bench.rounds.tell()
    assert bench.rounds.reports(KEY) is None
    bench.replies["b"] = None
    await bench.rounds.ask(second)
    bench.rounds.tell()
    assert set(bench.rounds.reports(KEY) or ()) == {"a"}
    assert await bench.reconciled()


async def test_a_pool_without_workers_is_known_to_have_none() -> None:
    bench = Bench()
    await bench.run(1)
    assert bench.rounds.reports(KEY) == {}


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        pytest.param({"busy": 0, "slots": 2, "consuming": True, "work": {"dead_letters": 1}}, 11, id="news: at once"),
        pytest.param({"busy": 1, "slots": 2, "consuming": True}, 31, id="figures: every 30 s"),
        pytest.param({"busy": 0, "slots": 2, "consuming": True}, None, id="nothing: never"),
    ],
)
async def test_a_pool_is_reconciled_for(reply: dict[str, Any], seconds: int | None) -> None:
    bench = Bench(a_worker("a"))
    await bench.run(1)
    assert await bench.reconciled()
    bench.replies["a"] = reply
    for _ in range(120):
        await bench.run(1)
        if await bench.reconciled():
            break
    assert (bench.seconds if bench.seconds < 121 else None) == seconds


async def test_a_worker_that_is_gone_takes_its_report_along_and_old_reports_end() -> None:
    bench = Bench(a_worker("a"), a_worker("b"))
    await bench.run(1)
    del bench.caches.workers["b"]
    await bench.run(1)
    assert set(bench.rounds.reports(KEY) or ()) == {"a"}
    bench.replies["a"] = None
    await bench.run(int(rounds.STALE_SECONDS) + 20)
    assert bench.rounds.reports(KEY) == {}


async def test_the_figures_are_exported_by_pool() -> None:
    bench = Bench(a_worker("a"), a_worker("b"))
    work = {"failed": 3, "oldest": {"name": "t", "id": "1", "seconds": 60}}
    bench.replies["a"] = {"busy": 1, "slots": 2, "consuming": True, "work": work}
    await bench.run(1)
    labels = {"pool_namespace": "shop", "pool": "emails"}
    value = bench.metrics.registry.get_sample_value
    assert value("celeriac_operator_pool_slots", labels) == 4
    assert value("celeriac_operator_pool_recent_failed_tasks", labels) == 3
    assert value("celeriac_operator_pool_oldest_task_seconds", labels) == 61
