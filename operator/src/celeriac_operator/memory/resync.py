"""Compares the caches with the cluster: once in full at start, then every few minutes by versions only.

A watch can go deaf without an error, and a watch that begins anew does not report what was deleted meanwhile. So the
truth is asked for from time to time: an object that is in a cache and not in the cluster is taken out; one of which the
cluster has a newer version, for longer than events take to travel, is read. When that happens twice in a row for a
kind, its watch is deaf, the operator reports itself as unhealthy, and Kubernetes restarts it.

After each comparison every pool is put into the queue: the last net below everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from celeriac_operator import labels
from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.client import Cluster
from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.exceptions import ApiError, StartError
from celeriac_operator.memory.caches import Caches, Key, Store, key_of, version_of
from celeriac_operator.memory.intake import Intake
from celeriac_operator.metrics import Metrics
from celeriac_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

TRAVEL_SECONDS = 5.0
"""How long an event may take from the API server to the caches before it counts as lost."""

SETTLE_SECONDS = 5.0
"""After a watch began anew: all its objects arrive first, then the caches are compared once."""

DEAF_AFTER = 2


class Resync:
    """Keeps the caches true."""

    def __init__(
        self,
        cluster: Cluster,
        caches: Caches,
        intake: Intake,
        queue: WorkQueue[Key],
        metrics: Metrics,
        *,
        period_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._caches = caches
        self._intake = intake
        self._queue = queue
        self._metrics = metrics
        self._period_seconds = period_seconds
        self._sleep = sleep
        self._wanted = asyncio.Event()
        self._missed: dict[Kind, int] = {}
        self._stores: Mapping[Kind, Store[object]] = {
            kinds.POOL: caches.pools,  # type: ignore[dict-item]  # only keys and versions are looked at
            kinds.DEPLOYMENT: caches.deployments,  # type: ignore[dict-item]  # ditto
            kinds.DISRUPTION_BUDGET: caches.budgets,  # type: ignore[dict-item]  # ditto
            kinds.POD: caches.pods,  # type: ignore[dict-item]  # ditto
            kinds.SECRET: caches.secrets,  # type: ignore[dict-item]  # ditto
        }

    async def load(self) -> None:
        """Fill the caches before anything is decided.

        Raises:
            StartError: the CRD is not there, or a list is forbidden; the text says what to do.
        """
        for kind in kinds.WATCHED:
            await self._load(kind)

    async def _load(self, kind: Kind) -> None:
        try:
            await self._read_all(kind)
        except ApiError as error:
            raise StartError(_explain(kind, error)) from error

    def watch_began(self) -> None:
        """A watch has listed its objects anew; deletions in between went unseen."""
        self._wanted.set()

    def deaf(self) -> str:
        """What is wrong with the watches; empty: nothing is."""
        kinds_missed = sorted(kind.plural for kind, times in self._missed.items() if times >= DEAF_AFTER)
        return f"the watch of {', '.join(kinds_missed)} delivers nothing" if kinds_missed else ""

    async def run(self) -> None:
        """Compare every period, and soon after a watch began anew, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._period_seconds):
                    await self._wanted.wait()
                await self._sleep(SETTLE_SECONDS)
            except TimeoutError:
                for key in self._caches.pools.known():
                    self._queue.add(key)
            self._wanted.clear()
            try:
                await self.run_once()
            except ApiError as error:
                logger.warning("the caches could not be compared with the cluster: %s", error)

    async def run_once(self) -> dict[str, int]:
        """One comparison of all kinds; returns how many objects had to be put right, by kind.

        Raises:
            ApiError: the cluster could not be asked.
        """
        return {kind.kind: await self._compare(kind) for kind in kinds.WATCHED}

    async def _compare(self, kind: Kind) -> int:
        store = self._stores[kind]
        listed: dict[Key, int] = {}
        lists: dict[str, int] = {}
        async for namespace, version, items in self._cluster.pages(kind, metadata_only=True):
            lists[namespace] = version
            listed.update((key_of(manifest), version_of(manifest)) for manifest in items)
        gone = 0
        for key in store.known():
            version = lists.get(key.namespace, lists.get("", 0))
            if key not in listed and store.version(key) <= version:
                self._intake.lost(kind, key, version)
                gone += 1
        return gone + await self._read_missed(kind, store, listed)

    async def _read_all(self, kind: Kind) -> None:
        # Of Secrets only the owned ones: those that pools name are read one by one when they are first needed.
        selector = labels.WATCHED if kind is kinds.SECRET else ""
        async for _, _, items in self._cluster.pages(kind, label_selector=selector):
            for manifest in items:
                self._intake.found(kind, manifest)

    async def _read_missed(self, kind: Kind, store: Store[object], listed: Mapping[Key, int]) -> int:
        # A Secret that no pool names is in no cache, and is not missed.
        known = set(store.known()) if kind is kinds.SECRET else listed.keys()
        behind = [key for key, version in listed.items() if key in known and store.version(key) < version]
        if behind:
            await self._sleep(TRAVEL_SECONDS)
        missed = [key for key in behind if store.version(key) < listed[key]]
        if kind is kinds.SECRET:
            for key in missed:
                manifest = await self._cluster.read(kind, key.namespace, key.name)
                if manifest is not None:
                    self._intake.found(kind, manifest)
        elif missed:
            await self._read_all(kind)
        self._metrics.watch_missed.labels(kind.kind).inc(len(missed))
        self._missed[kind] = self._missed.get(kind, 0) + 1 if missed else 0
        if missed:
            logger.warning("the watch of %s had missed %d changes; they are made up for", kind.plural, len(missed))
        return len(missed)


def _explain(kind: Kind, error: ApiError) -> str:
    if error.status == 404 and kind is kinds.POOL:
        return (
            "the cluster does not know CeleryWorkerPool. Install the CRD: it is part of the Helm chart (crds.enabled), "
            "or kubectl apply --server-side -f crds/celeriac.dev_celeryworkerpools.yaml"
        )
    if error.status == 403:
        return (
            f"the operator may not list {kind.plural}: {error.message}. Grant the verbs list and watch on "
            f"{kind.plural}{f' of {kind.group}' if kind.group else ''}, or restrict CELERIAC_WATCH_NAMESPACES"
        )
    if error.status == 401:
        return f"the API server does not accept the operator's credentials: {error.message}"
    return f"the cluster's {kind.plural} cannot be listed: {error}"
