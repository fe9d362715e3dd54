"""Who takes keys from the queue? Several loops, which reconcile each key and retry failures with growing pauses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory.caches import Key
from celeriac_operator.metrics import Metrics
from celeriac_operator.passes.reconcile import Result
from celeriac_operator.status import refusals
from celeriac_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)


class Controller:
    """Runs reconciliations."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        reconcile: Callable[[Key], Awaitable[Result]],
        metrics: Metrics,
        *,
        workers: int,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._workers = workers

    async def run(self) -> None:
        """Reconcile until cancelled. If a pass is interrupted, the next one sees what it has done and continues."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait for a key and reconcile it once."""
        key = await self._queue.get()
        started = time.monotonic()
        try:
            result = await self._pass(key)
        finally:
            self._queue.done(key)
            self._metrics.reconcile_seconds.observe(time.monotonic() - started)
        self._metrics.reconciles.labels(result).inc()

    async def _pass(self, key: Key) -> str:
        try:
            result = await self._reconcile(key)
        except ApiError as error:
            seconds = self._queue.retry(key)
            # A conflict means that the cache was behind, which needs no attention; neither does a deleted namespace.
            level = logging.DEBUG if error.status == 409 or refusals.is_leaving(error) else logging.WARNING
            logger.log(
                level, "%s; next attempt in %.1f s", error, seconds, extra={"pool": str(key), "reason": error.reason}
            )
            return "error"
        except Exception:
            # A bug that one pool triggers must not stop the others.
            seconds = self._queue.retry(key)
            logger.exception("reconciling failed; next attempt in %.1f s", seconds, extra={"pool": str(key)})
            return "error"
        if result.refused:
            self._queue.retry(key)
        else:
            self._queue.forget(key)
        if result.again_seconds is not None:
            self._queue.add_after(key, result.again_seconds)
        return "refused" if result.refused else "done"
