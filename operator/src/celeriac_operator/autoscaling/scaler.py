"""Who sets the number of workers? This loop: it reads all brokers, decides by the policy, and writes `spec.replicas`.

Promise: a number is decided from figures that are at most STALE_SECONDS old; without such figures it is not changed in
either direction. The loop writes only this number, through the pool's scale subresource; reconciling follows the number
and reports it.

    caches ──pools, Secrets──> arrange (each second) ──> a poller per broker ──readings──> decide ──> write /scale
                                                                                         └──> state(key) ──> status

Limit: it runs on the leader only and stores nothing. After a change of leader the stabilisation window begins again,
with the current number.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from celeriac_operator.autoscaling import policy, samples, scaling_request
from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.connect import AuthenticationFailed, Broker, BrokerError, Reading, Watched
from celeriac_operator.autoscaling.connections import BrokerAddress, Pollers, Pools
from celeriac_operator.autoscaling.contest import TIMES, WITHIN_SECONDS, Contest
from celeriac_operator.autoscaling.credentials import Credentials, Missing
from celeriac_operator.autoscaling.polling import Readings
from celeriac_operator.autoscaling.samples import Measured
from celeriac_operator.autoscaling.scaling_request import ScalingRequest
from celeriac_operator.cluster.client import Cluster
from celeriac_operator.decide.observed import ScalingState
from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.metrics import Metrics
from celeriac_operator.reasons import Activity
from celeriac_operator.resource import CeleryWorkerPool, ScalingDecision
from celeriac_operator.resource.status import MAX_DECISIONS
from celeriac_operator.status import writing
from celeriac_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

ARRANGE_SECONDS = 1.0
"""Pause between two checks of which pools scale, and on which brokers."""

WRITERS = 4
"""Numbers that are written at the same time."""

SECRETS_AT_ONCE = 8

LONGEST_SECONDS = 10 * 365 * 86400

SAME_SECONDS = 3.0
"""Difference up to which two computed times of the oldest message count as the same."""

NOT_READ = ScalingState(activity=Activity.DISABLED, message="the queues are not read", is_read=False)

CONTESTED = (
    f"another writer has changed replicas {TIMES} times within {WITHIN_SECONDS:.0f} s: remove the other autoscaler, or "
    "remove replicas from the manifest that is being applied"
)


@dataclass(kw_only=True)
class _Pool:
    """The state of one pool."""

    request: ScalingRequest
    versions: tuple[int, int]
    address: BrokerAddress | None = None
    history: policy.History = field(default_factory=policy.History)
    contest: Contest = field(default_factory=Contest)
    reading: Reading | None = None
    decision: policy.Decision | None = None
    state: ScalingState | None = None
    oldest_since: datetime | None = None
    told: tuple[object, ...] | None = None
    told_at: float = 0.0


class Scaler:
    """Sets the number of workers of all pools with autoscaling, and reports the queues of all pools.

    Args:
        reports_all: whether the queues of pools without autoscaling are read too.
    """

    def __init__(  # noqa: PLR0913 - what it works with, a switch, and two that tests replace
        self,
        cluster: Cluster,
        caches: Caches,
        queue: WorkQueue[Key],
        metrics: Metrics,
        now: Callable[[], datetime],
        *,
        reports_all: bool = True,
        connect: Callable[[BrokerAddress], Broker] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._caches = caches
        self._queue = queue
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._credentials = Credentials(cluster, caches, clock=clock)
        self._reports_all = reports_all
        self._has_looked = False
        self._pools: dict[Key, _Pool] = {}
        self._pollers = Pollers(self._take, connect=connect, clock=clock)
        self._writes: WorkQueue[Key] = WorkQueue()
        metrics.follow_scaling(lambda: samples.scaling(self._measured()))
        metrics.follow_queues(lambda: samples.queues(self._measured()))

    def state(self, key: Key) -> ScalingState | None:
        """The state of a pool; None: it has not been evaluated yet."""
        pool = self._pools.get(key)
        if pool is None and self._has_looked:
            return NOT_READ
        return pool.state if pool else None

    async def run(self) -> None:
        """Scale until cancelled; then close all connections and forget all state."""
        tasks = [asyncio.create_task(self._write_for_ever()) for _ in range(WRITERS)]
        try:
            while True:
                began = self._clock()
                try:
                    await self.arrange()
                except ApiError as error:
                    logger.warning("a Secret with a broker URL cannot be read: %s", error)
                except Exception:
                    # A bug that one pool triggers must stop neither the others nor the operator.
                    logger.exception("checking the pools with autoscaling failed")
                await asyncio.sleep(max(0.0, ARRANGE_SECONDS - (self._clock() - began)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Close all connections and forget all state. Safe to call twice."""
        await self._pollers.close()
        self._pools.clear()
        self._has_looked = False
        self._writes.restart(())

    # --- which pools scale, and on which brokers

    async def arrange(self) -> None:
        """Check all pools, and have one poller for each broker that they name.

        Raises:
            ApiError: a Secret cannot be read; its pools are not changed until the next check.
        """
        self._follow_pools()
        outcomes = await self._find_urls()
        self._credentials.keep([(key.namespace, pool.request.source) for key, pool in self._pools.items()])
        wanted: dict[BrokerAddress, dict[str, Watched]] = {}
        for pool in self._pools.values():
            if pool.address:
                wanted.setdefault(pool.address, {})[pool.request.watched.pool] = pool.request.watched
        await self._pollers.follow(wanted)
        for name, why in self._pollers.unusable():
            self._hold(_key(name), Activity.UNUSABLE_URL, why)
        self._notice_silence()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _follow_pools(self) -> None:
        known = self._caches.pools.known()
        for gone in self._pools.keys() - known:
            del self._pools[gone]
        for key in known:
            manifest = self._caches.pools.get(key)
            if manifest is None or not (self._reports_all or "autoscaling" in manifest["spec"]):
                self._drop(key)
                continue
            versions = (self._caches.pools.version(key), self._caches.deployments.version(key))
            pool = self._pools.get(key)
            if pool is not None and pool.versions == versions:
                continue
            found = self._read(key)
            if found is None:
                self._drop(key)
            elif pool is None:
                self._pools[key] = _Pool(request=found, versions=versions)
            else:
                pool.request, pool.versions = found, versions
        self._has_looked = True

    def _drop(self, key: Key) -> None:
        """The pool's queues are not read any more, so its status must not show them."""
        if self._pools.pop(key, None) is not None:
            self._queue.add(key)

    def _read(self, key: Key) -> ScalingRequest | None:
        try:
            pool = CeleryWorkerPool.parse(dict(self._caches.pools.get(key) or {}))
        except ValidationError:  # reconciling reports it in the status
            return None
        return scaling_request.read(pool, self._caches.deployments.get(key))

    async def _find_urls(self) -> list[BaseException | None]:
        slots = asyncio.Semaphore(SECRETS_AT_ONCE)

        async def find(key: Key, pool: _Pool) -> None:
            async with slots:
                found = await self._credentials.find(key.namespace, pool.request.source)
            if isinstance(found, Missing):
                pool.address = None
                self._hold(key, found.activity, found.message)
            elif found is not None:
                management = urls.qualify(pool.request.source.management, key.namespace)
                pool.address = BrokerAddress(found, management)

        return await asyncio.gather(
            *(find(key, pool) for key, pool in list(self._pools.items())), return_exceptions=True
        )

    # --- deciding

    def _take(
        self, address: BrokerAddress, pools: Pools, readings: Readings, at: float, only: frozenset[str] | None
    ) -> None:
        """Take in the readings of one round, of all pools or only of some."""
        self._metrics.scaling_round_seconds.observe(self._clock() - at)
        if isinstance(readings, BrokerError):
            refused = isinstance(readings, AuthenticationFailed)
            activity = Activity.AUTHENTICATION_FAILED if refused else Activity.BROKER_UNREACHABLE
            self._metrics.scaling_failures.labels(activity).inc()
            if refused:
                self._credentials.doubt(address.url)
            for name in pools:
                self._hold(_key(name), activity, str(readings))
            return
        for name in pools:
            reading = readings.get(name)
            if reading is not None:
                self._decide(_key(name), reading)
            elif only is None or name in only:
                self._hold(_key(name), Activity.FIGURES_REFUSED, "the broker refuses to show the queues of this pool")

    def _decide(self, key: Key, reading: Reading) -> None:
        pool, manifest = self._pools.get(key), self._caches.pools.get(key)
        if pool is None or manifest is None:
            return
        figures = replace(reading.figures, unschedulable=self._caches.unschedulable(key))
        pool.reading = Reading(figures, reading.backlog)
        pool.oldest_since = self._oldest_since(pool, reading)
        if pool.request.spec is None:
            self._say(key, pool, Activity.ACTIVE, "")
            return
        current = manifest["spec"].get("replicas", pool.request.replicas)
        pool.contest = pool.contest.see(current, self._clock())
        if pool.contest.is_lost(self._clock()):
            pool.decision, pool.history = None, policy.History()
            self._say(key, pool, Activity.CONTESTED, f"held at {current}: {CONTESTED}")
            return
        decision = policy.decide(pool.request.spec, figures, pool.history, current=current, now=self._clock())
        pool.history, pool.decision = decision.history, decision
        self._say(key, pool, decision.activity, decision.reason)
        if decision.replicas != current and not pool.request.is_suspended:
            self._writes.add(key)

    def _oldest_since(self, pool: _Pool, reading: Reading) -> datetime | None:
        """When the oldest message was sent. It is computed from an age: a small difference is none."""
        age = reading.figures.oldest_age_seconds
        if age is None or not math.isfinite(age):
            return None
        found, before = self._now() - timedelta(seconds=min(age, LONGEST_SECONDS)), pool.oldest_since
        is_same = before is not None and abs((found - before).total_seconds()) <= SAME_SECONDS
        return before if is_same else found.replace(microsecond=0)

    def _notice_silence(self) -> None:
        """Hold pools whose figures have become too old, because a round hangs or is late."""
        for key, pool in self._pools.items():
            if pool.reading is None or pool.state is None or pool.state.activity is not Activity.ACTIVE:
                continue
            if pool.request.spec is None:
                continue
            age = self._clock() - pool.reading.figures.read_at
            if age > policy.STALE_SECONDS:
                self._hold(key, Activity.FIGURES_STALE, f"the newest figures are {age:.0f} s old")

    def _hold(self, key: Key, activity: Activity, why: str) -> None:
        """A reading of this pool failed. Its state changes only once the last figures are stale: a broker may
        restart."""
        pool, manifest = self._pools.get(key), self._caches.pools.get(key)
        if pool is None or manifest is None:
            return
        # A decision from before the failure is not written any more.
        pool.decision = None
        if pool.reading is not None and self._clock() - pool.reading.figures.read_at <= policy.STALE_SECONDS:
            return
        pool.history = policy.History()
        self._say(key, pool, activity, f"held at {manifest['spec'].get('replicas', 1)}: {why}")

    def _say(self, key: Key, pool: _Pool, activity: Activity, message: str) -> None:
        """Store the state for the status, and queue the pool if there is something new to report."""
        backlog = pool.reading.backlog if pool.reading else None
        decisions = pool.state.decisions if pool.state else ()
        pool.state = ScalingState(
            activity=activity, message=message, backlog=backlog, oldest_since=pool.oldest_since, decisions=decisions
        )
        if pool.told == (activity, backlog, pool.oldest_since):
            return
        is_news = pool.told is None or pool.told[0] is not activity
        if is_news or self._clock() - pool.told_at >= writing.queue_counts_seconds(len(self._pools)):
            pool.told, pool.told_at = (activity, backlog, pool.oldest_since), self._clock()
            self._queue.add(key)

    # --- writing

    async def _write_for_ever(self) -> None:
        while True:
            await self.write_once()

    async def write_once(self) -> None:
        """Wait for a pool whose number must change, and write it."""
        key = await self._writes.get()
        try:
            await self._write(key)
        except ApiError as error:
            # The next round decides again. A conflict means that the pool was replaced or changed, which needs no
            # attention.
            level = logging.DEBUG if error.status in (404, 409) else logging.WARNING
            extra = {"pool": str(key), "reason": error.reason}
            logger.log(level, "replicas could not be written: %s", error, extra=extra)
        except Exception:
            logger.exception("writing replicas failed", extra={"pool": str(key)})
        finally:
            self._writes.done(key)

    async def _write(self, key: Key) -> None:
        pool, manifest = self._pools.get(key), self._caches.pools.get(key)
        if pool is None or manifest is None or pool.decision is None or pool.reading is None:
            return
        decision, figures = pool.decision, pool.reading.figures
        before = manifest["spec"].get("replicas", pool.request.replicas)
        if decision.replicas == before:
            return
        pool.contest = pool.contest.writes()
        scale = await self._cluster.scale(manifest["metadata"], decision.replicas)
        pool.contest = pool.contest.wrote(decision.replicas)
        self._caches.observe_scale(key, scale)
        self._record(pool, before, decision, figures)
        logger.info("replicas %d -> %d: %s", before, decision.replicas, decision.reason, extra={"pool": str(key)})
        self._queue.add(key)

    def _record(self, pool: _Pool, before: int, decision: policy.Decision, figures: policy.Figures) -> None:
        self._metrics.scaling_decisions.labels("up" if decision.replicas > before else "down").inc()
        oldest, service = figures.oldest_age_seconds, figures.service_seconds
        latest = ScalingDecision(
            time=self._now().replace(microsecond=0),
            from_replicas=before,
            to_replicas=decision.replicas,
            reason=decision.reason,
            backlog=figures.backlog,
            in_flight=figures.in_flight,
            busy_slots=figures.busy_slots,
            oldest_seconds=None if oldest is None else round(oldest),
            service_milliseconds=None if service is None else round(service * 1000),
        )
        if pool.state is not None:
            pool.state = replace(pool.state, decisions=(latest, *pool.state.decisions)[:MAX_DECISIONS])

    # --- metrics

    def _measured(self) -> list[Measured]:
        """For the metrics thread: from a copy that is made in one step."""
        now = self._clock()
        return [
            Measured(key, pool.request, pool.reading, now - pool.reading.figures.read_at)
            for key, pool in list(self._pools.items())
            if pool.reading is not None
        ]


def _key(pool: str) -> Key:
    namespace, _, name = pool.partition("/")
    return Key(namespace, name)
