"""Which workers are idle before a pool is scaled down? They are asked, and Kubernetes is told to remove them first.

Called by the pass that is about to scale down a Deployment, whether a user or the autoscaler requested it.
**Promise.** It takes one second at most, does not fail because of the workers, and never prevents the scale-down.
**Limit.** A worker may start a task after its reply; it then drains like any other worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar

import aiohttp

from celeriac_operator import bounded
from celeriac_operator.cluster.client import Cluster
from celeriac_operator.decide import victims
from celeriac_operator.decide.victims import Marking, Worker, WorkerReply
from celeriac_operator.exceptions import ApiError
from celeriac_operator.manifest import Manifest
from celeriac_operator.memory.caches import Key
from celeriac_operator.metrics import Metrics

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 0.5
"""Limit for asking all workers of a pool. A worker that does not reply in time counts as busy."""

WRITE_SECONDS: Final = 0.5
"""Limit for writing all deletion costs of a pool."""

AT_ONCE: Final = 32
"""Concurrent requests: to the workers of all pools together, and to the API server for each pool."""

Outcome = TypeVar("Outcome")


class Shrinking:
    """Prepares pools for a scale-down."""

    def __init__(self, cluster: Cluster, metrics: Metrics) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None

    async def prepare(self, pool: Key, workers: Sequence[Worker]) -> list[Manifest]:
        """Write the deletion costs of these workers; returns the changed pods."""
        replies = await self._ask(workers)
        counted = Counter(replies.get(worker.uid, WorkerReply.NONE) for worker in workers)
        for reply, number in counted.items():
            self._metrics.shrink_answers.labels(reply.value).inc(number)
        markings = victims.mark(workers, replies)
        logger.info(
            "scaling down: %d workers are idle, %d busy, and %d did not reply and count as busy",
            *(counted[reply] for reply in WorkerReply),
            extra={"pool": str(pool)},
        )
        slots = asyncio.Semaphore(AT_ONCE)
        writes = [self._write(pool, marking, slots) for marking in markings]
        written = [pod for pod in await _within(WRITE_SECONDS, writes) if pod is not None]
        if len(written) < len(markings):
            counts = (len(markings), len(written))
            logger.info("of %d deletion costs %d were written in time", *counts, extra={"pool": str(pool)})
        return written

    async def close(self) -> None:
        """Close the connections; a second call changes nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, workers: Iterable[Worker]) -> dict[str, WorkerReply]:
        asked = [worker for worker in workers if worker.status_url]
        replies = await _within(ASK_SECONDS, [self._ask_one(worker.status_url) for worker in asked])
        return {worker.uid: reply for worker, reply in zip(asked, replies, strict=True) if reply is not None}

    async def _ask_one(self, url: str) -> WorkerReply:
        if self._session is None:
            # Connections are not kept: the next scale-down asks other workers.
            connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,  # a small reply could become a large one
            )
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    return WorkerReply.NONE
                return victims.read_reply(await bounded.read_body(response.content, victims.STATUS.size))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            logger.debug("%s does not reply: %s", url, error)
            return WorkerReply.NONE

    async def _write(self, pool: Key, marking: Marking, slots: asyncio.Semaphore) -> Manifest | None:
        worker = marking.worker
        async with slots:
            try:
                return await self._cluster.write_deletion_cost(pool.namespace, worker.name, worker.uid, marking.cost)
            except ApiError as error:
                # The pod is gone, or another manager has set its cost.
                level = logging.DEBUG if error.status in (404, 409) else logging.WARNING
                logger.log(level, "no deletion cost for %s: %s", worker.name, error, extra={"pool": str(pool)})
                return None


async def _within(seconds: float, coroutines: Iterable[Coroutine[Any, Any, Outcome]]) -> list[Outcome | None]:
    """Run all coroutines; returns their results in order, None for those that were not finished in time."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [_outcome(result) for result in ended]


def _outcome(ended: Outcome | BaseException) -> Outcome | None:
    if isinstance(ended, asyncio.CancelledError):
        return None
    if isinstance(ended, BaseException):
        raise ended
    return ended
