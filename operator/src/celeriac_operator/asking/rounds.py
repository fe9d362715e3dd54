"""Which worker is asked when, and what did all of them reply?

    ready, and consumes          every 10 s
    runs, and is not ready       every 3 s: it may say that the broker is away
    does not reply               after 10 s, then 20 s, up to 60 s
    all pools together           at most 100 workers a second; with more, each is asked less often

A pool is reconciled when its workers report something that a condition looks at, and otherwise at the pace at which
numbers are written into a status.

Limit: it runs on the leader only and stores nothing. Until every worker of a pool has been asked once, the pool's
status keeps what it had.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from celeriac_operator.asking.client import AT_ONCE, StatusClient
from celeriac_operator.decide import work
from celeriac_operator.decide.work import Asked, PoolWork, WorkerReport
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.metrics import Metrics, WorkSample
from celeriac_operator.status import writing
from celeriac_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
"""Pause between two looks at which workers are due."""

READY_SECONDS: Final = 10.0
UNREADY_SECONDS: Final = 3.0
LONGEST_SECONDS: Final = 60.0

A_TICK: Final = 100
"""Workers that are asked in a tick."""

STALE_SECONDS: Final = 90.0
"""An older reply is not used."""


@dataclass(kw_only=True)
class _Worker:
    """One worker, by the uid of its pod."""

    pool: Key
    due: float
    is_being_asked: bool = False
    failures: int = 0
    was_asked: bool = False
    report: WorkerReport | None = None


@dataclass(kw_only=True)
class _Told:
    """What a pool was last reconciled for."""

    reports: Mapping[str, WorkerReport]
    at: float


class Workers:
    """Asks the workers of all pools.

    Args:
        ask: returns the body of a worker's reply, or None.
        clock: returns seconds, for the pace.
    """

    def __init__(
        self,
        caches: Caches,
        queue: WorkQueue[Key],
        metrics: Metrics,
        now: Callable[[], datetime],
        *,
        ask: Callable[[str], Awaitable[bytes | None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caches = caches
        self._queue = queue
        self._now = now
        self._clock = clock
        self._client = StatusClient()
        self._ask = ask or self._client.ask
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._known: dict[str, _Worker] = {}
        self._of: dict[Key, set[str]] = {}
        self._told: dict[Key, _Told] = {}
        self._heard: set[Key] = set()
        metrics.follow_work(self._samples)

    def reports(self, pool: Key) -> Mapping[str, WorkerReport] | None:
        """The replies of a pool's workers, by the uid of the pod; None: not all of them have been asked yet."""
        workers = {uid: self._known[uid] for uid in self._of.get(pool, ())}
        if any(not worker.was_asked for worker in workers.values()) or pool not in self._told:
            return None
        now = self._now()
        return {
            uid: worker.report
            for uid, worker in workers.items()
            if worker.report is not None and (now - worker.report.at).total_seconds() <= STALE_SECONDS
        }

    async def run(self) -> None:
        """Ask until cancelled; then forget everything."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                for worker in self.due():
                    task = asyncio.create_task(self.ask(worker))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await asyncio.sleep(TICK_SECONDS)
                self.tell()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._known.clear()
            self._of.clear()
            self._told.clear()
            self._heard.clear()
            await self._client.close()

    def due(self) -> list[Asked]:
        """The workers to ask now, those that are due the longest first."""
        now, there = self._clock(), {asked.uid: (pool, asked) for pool, asked in self._caches.askable()}
        for gone in self._known.keys() - there.keys():
            self._forget(gone)
        for uid, (pool, asked) in there.items():
            if uid not in self._known:
                self._known[uid] = _Worker(pool=pool, due=now)
                self._of.setdefault(pool, set()).add(uid)
            elif not asked.is_ready and self._known[uid].failures == 0:
                worker = self._known[uid]
                worker.due = min(worker.due, now + UNREADY_SECONDS)
        for pool in self._caches.pools.known():
            if pool not in self._told and pool not in self._of:
                self._told[pool] = _Told(reports={}, at=now)  # nobody is to be asked
        due = sorted(
            (uid for uid, worker in self._known.items() if worker.due <= now and not worker.is_being_asked),
            key=lambda uid: self._known[uid].due,
        )
        return [there[uid][1] for uid in due[:A_TICK]]

    async def ask(self, asked: Asked) -> None:
        """Ask one worker and take in its reply."""
        worker = self._known[asked.uid]
        worker.is_being_asked = True
        try:
            async with self._slots:
                body = await self._ask(asked.url)
            report = None if body is None else work.read(body, pod=asked.name, now=self._now(), before=worker.report)
        except Exception:
            # A bug that one worker's reply triggers must not stop the others.
            logger.exception("asking a worker failed", extra={"pool": str(worker.pool)})
            report = None
        finally:
            worker.is_being_asked = False
        worker.was_asked = True
        worker.failures = 0 if report is not None else worker.failures + 1
        worker.report = report or worker.report
        worker.due = self._clock() + _pause(asked, worker)
        self._heard.add(worker.pool)

    def tell(self) -> None:
        """Queue the pools about whose workers there is something new to report."""
        heard, self._heard = self._heard, set()
        for pool in heard:
            self._tell(pool)

    def _tell(self, pool: Key) -> None:
        now, told = self._clock(), self._told.get(pool)
        if any(not self._known[uid].was_asked for uid in self._of.get(pool, ())):
            return
        if told is None:
            self._told[pool] = _Told(reports={}, at=now)
            self._told[pool].reports = self.reports(pool) or {}
            self._queue.add(pool)
            return
        reports = self.reports(pool) or {}
        is_due = now - told.at >= writing.queue_counts_seconds(len(self._caches.pools))
        is_changed = is_due and work.add_up(told.reports.values()) != work.add_up(reports.values())
        if is_changed or work.is_news(told.reports, reports):
            self._queue.add(pool)
            self._told[pool] = _Told(reports=reports, at=now)

    def _forget(self, uid: str) -> None:
        pool = self._known.pop(uid).pool
        self._of[pool].discard(uid)
        if not self._of[pool]:
            del self._of[pool]
            self._told.pop(pool, None)
        else:
            self._heard.add(pool)

    def _samples(self) -> list[WorkSample]:
        """For the metrics thread: from a copy that is made in one step."""
        pools: dict[Key, list[WorkerReport]] = {}
        for worker in list(self._known.values()):
            if worker.report is not None:
                pools.setdefault(worker.pool, []).append(worker.report)
        return [_sample(pool, work.add_up(reports), self._now()) for pool, reports in pools.items()]


def _pause(asked: Asked, worker: _Worker) -> float:
    """Seconds until a worker is asked again."""
    if worker.failures:
        if not asked.is_ready and worker.report is None and worker.failures <= 20:
            return UNREADY_SECONDS  # it starts
        return min(READY_SECONDS * 2.0 ** min(worker.failures - 1, 10), LONGEST_SECONDS)
    consumes = worker.report is not None and worker.report.consuming
    return READY_SECONDS if asked.is_ready and consumes else UNREADY_SECONDS


def _sample(pool: Key, added: PoolWork, now: datetime) -> WorkSample:
    oldest = added.oldest
    return WorkSample(
        namespace=pool.namespace,
        pool=pool.name,
        workers=added.workers,
        slots=added.slots,
        busy=added.busy,
        oldest_seconds=max(0.0, (now - oldest.started_at).total_seconds()) if oldest else 0.0,
        stuck=added.stuck,
        succeeded=added.succeeded,
        failed=added.failed,
        dead_letters=added.dead_letters,
    )
