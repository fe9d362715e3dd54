"""Do the caches agree with the cluster? Everything is read once at start, then versions are compared every few minutes.

A watch can stop delivering events without an error, and a watch that restarts does not report what was deleted in
between. So the caches are compared with the cluster from time to time: an object that is only in a cache is removed
from it, and an object of which the cluster has a newer version is read, once its event has had time to arrive. If a
kind's events are missing twice in a row, its watch counts as deaf: the health check fails, and Kubernetes restarts the
operator.

After each period every pool is queued again, so that nothing stays undone for longer than that.
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
"""Seconds that an event may take from the API server to the caches before it counts as lost."""

SETTLE_SECONDS = 5.0
"""Wait after a watch has restarted: its objects arrive first, then the caches are compared once."""

DEAF_AFTER = 2


class Resync:
    """Compares the caches with the cluster and corrects them."""

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
        """Fill the caches before the first decision.

        Raises:
            StartError: the CRD is not installed, or a list is forbidden; the message says what to do.
        """
        for kind in kinds.WATCHED:
            await self._load(kind)

    async def _load(self, kind: Kind) -> None:
        try:
            await self._read_all(kind)
        except ApiError as error:
            raise StartError(_explain(kind, error)) from error

    def watch_began(self) -> None:
        """A watch has restarted; deletions in between were not seen."""
        self._wanted.set()

    def deaf(self) -> str:
        """What is wrong with the watches; empty: nothing."""
        kinds_missed = sorted(kind.plural for kind, times in self._missed.items() if times >= DEAF_AFTER)
        return f"the watch of {', '.join(kinds_missed)} delivers no events" if kinds_missed else ""

    async def run(self) -> None:
        """Compare after every period, and soon after a watch has restarted, until cancelled."""
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
        """Compare all kinds once; returns the number of corrected objects by kind.

        Raises:
            ApiError: a list failed.
        """
        self._caches.forget_removed()
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
        # Of Secrets only the owned ones; those that pools name are read one by one when they are first needed.
        selector = labels.WATCHED if kind is kinds.SECRET else ""
        async for _, _, items in self._cluster.pages(kind, label_selector=selector):
            for manifest in items:
                self._intake.found(kind, manifest)

    async def _read_missed(self, kind: Kind, store: Store[object], listed: Mapping[Key, int]) -> int:
        # A Secret that no pool names is not cached, so it cannot be missing.
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
            logger.warning("the watch of %s missed %d changes; the caches were corrected", kind.plural, len(missed))
        return len(missed)


def _explain(kind: Kind, error: ApiError) -> str:
    if error.status == 404 and kind is kinds.POOL:
        return (
            "the cluster has no CeleryWorkerPool resource. Install the CRD: it is part of the Helm chart "
            "(crds.enabled), or kubectl apply --server-side -f crds/celeriac.dev_celeryworkerpools.yaml"
        )
    if error.status == 403:
        return (
            f"the operator may not list {kind.plural}: {error.message}. Grant the verbs list and watch on "
            f"{kind.plural}{f' of {kind.group}' if kind.group else ''}, or restrict CELERIAC_WATCH_NAMESPACES"
        )
    if error.status == 401:
        return f"the API server does not accept the operator's credentials: {error.message}"
    return f"the cluster's {kind.plural} cannot be listed: {error}"
