"""What happens in one reconciliation of a pool? Observe, plan, apply, report; no state but the caches and the
cluster."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.client import Cluster, OccupiedError
from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.decide import observed, ownership, plan, secrets, victims
from celeriac_operator.decide.dispute import Dispute
from celeriac_operator.decide.observed import Observed, ScalingState
from celeriac_operator.decide.plan import Apply, Conflict, Delete, Plan
from celeriac_operator.decide.work import WorkerReport
from celeriac_operator.event import Event
from celeriac_operator.exceptions import ApiError
from celeriac_operator.manifest import Manifest
from celeriac_operator.memory.caches import Caches, Key, version_of
from celeriac_operator.memory.keeping import MAX_SPEC, TOO_LARGE
from celeriac_operator.passes.disputes import Disputes
from celeriac_operator.reasons import EventReason
from celeriac_operator.resource import CeleryWorkerPool, Status
from celeriac_operator.settings import Settings
from celeriac_operator.status import compute, refusals, steps, writing
from celeriac_operator.status import events as status_events
from celeriac_operator.status.case import Case, Refusal

logger = logging.getLogger(__name__)

MINOR_SECONDS = 2.0
"""Pause between two writes of a status that differ in numbers only: the pods of a rollout change in bursts."""

LEAVING_SECONDS = 5.0
"""How often to check whether an object that is being deleted is gone, in case its event is lost."""

CONFLICT_SECONDS = 30.0
"""How often to check whether a conflicting object is gone. It has not our label, so it is not watched."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a reconciliation."""

    refused: bool = False
    """Whether the API server refused an object; the pool is then retried with growing pauses."""
    again_seconds: float | None = None
    """Seconds after which to reconcile again without an event; None: no need."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a pass asks beside the caches."""

    default_dsn: Callable[[], str] = str
    """The Sentry DSN for pools that set none."""
    scaling: Callable[[Key], ScalingState | None] = lambda _: None
    """The autoscaler's state for a pool."""
    reports: Callable[[Key], Mapping[str, WorkerReport] | None] = lambda _: None
    """What the pool's workers reply."""


class Reconciler:
    """Reconciles pools: several at a time, but never the same pool twice at a time."""

    def __init__(
        self,
        cluster: Cluster,
        caches: Caches,
        settings: Settings,
        clock: Callable[[], datetime],
        prepare_shrink: Callable[[Key, Sequence[victims.Worker]], Awaitable[list[Manifest]]],
        sources: Sources | None = None,
    ) -> None:
        self._cluster = cluster
        self._caches = caches
        self._settings = settings
        self._clock = clock
        self._prepare_shrink = prepare_shrink
        self._sources = sources or Sources()
        self._started = clock()
        self._reported: dict[Key, datetime] = {}
        self._disputes = Disputes()

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one pool and report its status.

        Raises:
            ApiError: a request failed; the next pass starts from the state that is reached.
        """
        manifest = self._caches.pools.get(key)
        if manifest is None:  # gone; Kubernetes deletes what it owned
            self._reported.pop(key, None)
            self._disputes.forget(key)
            return Result()
        manifest = await self._restore_replicas(key, manifest)
        try:
            pool = CeleryWorkerPool.parse(dict(manifest))
        except ValidationError as error:
            return await self._report_unreadable(key, manifest, _why_unreadable(manifest, error))
        if pool.metadata.deletion_timestamp is not None:
            return Result()
        await self._learn_secrets(pool)
        todo = plan.build(self._observe(pool), self._settings)
        todo, refusal, events = await self._apply(key, pool, todo)
        case = Case(
            seen=self._observe(pool),
            plan=todo,
            refusal=refusal,
            now=self._clock(),
            grace_seconds=self._settings.stalled_after_seconds,
        )
        report = compute.compute(case)
        wait = await self._report(key, manifest, pool.status, report.status)
        events += status_events.cut_short(self._caches.take_last_words(key), self._clock())
        await self._emit(pool, [*events, *(status_events.between(pool.status, report.status) if wait is None else ())])
        again = [
            report.recheck_seconds,
            wait,
            LEAVING_SECONDS if todo.waiting_for else None,
            CONFLICT_SECONDS if todo.conflicts else None,
            *(_dispute_seconds(dispute, self._clock()) for dispute in case.seen.disputes.values()),
            0.0 if self._is_outdated(key, manifest) else None,
        ]
        again_seconds = min((seconds for seconds in again if seconds is not None), default=None)
        return Result(refused=refusal is not None, again_seconds=again_seconds)

    async def _restore_replicas(self, key: Key, manifest: Manifest) -> Manifest:
        """Set the number again that was lost when `replicas` was taken out of a manifest; returns the pool then."""
        number = self._caches.lost_replicas(key)
        if number is None:
            return manifest
        scale = await self._cluster.scale(manifest["metadata"], number)
        self._caches.forget_lost_replicas(key)
        logger.info("replicas was taken out of the manifest: it stays %d", number, extra={"pool": str(key)})
        self._caches.observe_scale(key, scale)
        return self._caches.pools.get(key) or manifest

    def _observe(self, pool: CeleryWorkerPool) -> Observed:
        key = Key(pool.metadata.namespace, pool.metadata.name)
        now = self._clock()
        disputes = self._disputes.of(key, now)
        return replace(
            self._caches.observe(pool),
            default_dsn=self._sources.default_dsn(),
            scaling=self._sources.scaling(key),
            reports=self._sources.reports(key),
            disputes=disputes,
            paused_kinds=frozenset(kind for kind, dispute in disputes.items() if dispute.seconds_left(now)),
        )

    async def _learn_secrets(self, pool: CeleryWorkerPool) -> None:
        """Read Secrets that the pool names for the first time; afterwards watch events keep the facts up to date."""
        for key in self._caches.unknown_secrets(pool):
            try:
                manifest = await self._cluster.read(kinds.SECRET, key.namespace, key.name)
                facts = secrets.examine(manifest) if manifest else secrets.ABSENT
            except ApiError as error:
                if error.status != 403:
                    raise
                facts = secrets.UNREADABLE
            self._caches.note_secret(key, facts)

    async def _apply(self, key: Key, pool: CeleryWorkerPool, todo: Plan) -> tuple[Plan, Refusal | None, list[Event]]:
        """Execute the plan. A refusal ends it, because later actions may depend on the refused one."""
        events: list[Event] = []
        for action in todo.actions:
            before = self._caches.deployments.get(key)
            try:
                todo = await self._act(key, pool, todo, action)
            except ApiError as error:
                if refusals.is_leaving(error):
                    logger.debug("the namespace is being deleted: %s", error, extra={"pool": str(key)})
                    return todo, None, events
                refusal = refusals.read(error)
                if refusal is None:
                    raise
                return todo, refusal, events
            logger.info("%s: %s", _shown(action), action.reason, extra={"pool": str(key), "reason": action.reason})
            events += _repairs(pool, action, before)
            events += steps.taken(pool, action, before, self._caches.setters_of_replicas(key))
            if isinstance(action, Apply) and action.is_correction:
                self._disputes.corrected(key, action.manifest["kind"], action.reason, self._clock())
        return todo, None, events

    async def _act(self, key: Key, pool: CeleryWorkerPool, todo: Plan, action: Apply | Delete) -> Plan:
        match action:
            case Delete():
                await self._cluster.delete(kinds.OWNED[action.kind], key.namespace, action.name, action.uid)
                return todo
            case Apply():
                return await self._apply_object(key, pool, todo, action)

    async def _apply_object(self, key: Key, pool: CeleryWorkerPool, todo: Plan, action: Apply) -> Plan:
        kind = kinds.OWNED[action.manifest["kind"]]
        if kind is kinds.DEPLOYMENT:
            await self._choose_victims(key, action.manifest)
        if action.takes_over:
            await self._take_over(kind, action)
        try:
            there = await self._cluster.apply(kind, action.manifest, action.uid)
        except OccupiedError as error:
            if kind is kinds.SECRET:  # all Secrets are watched, so the next pass sees it
                self._caches.observe_secret(error.there)
            if not plan.is_ours(pool, error.there):
                return replace(todo, conflicts=(*todo.conflicts, _conflict(error.there)))
            # It is ours but was not seen: its label by which it is watched was removed.
            there = await self._cluster.apply(kind, action.manifest, error.there["metadata"]["uid"])
        self._caches.found(kind, there)
        # A Secret has no generation; it is compared by the digest of its value.
        generation = there["metadata"].get("generation", 0)
        applied = observed.Applied(digest=plan.digest(action.manifest), generation=generation)
        self._caches.note_applied(key, kind.kind, applied)
        return todo

    async def _take_over(self, kind: Kind, action: Apply) -> None:
        """Become the manager of what others have added to the object, so that the next apply removes it."""
        metadata = action.manifest["metadata"]
        there = await self._cluster.read(kind, metadata["namespace"], metadata["name"])
        if there is not None and there["metadata"]["uid"] == action.uid:
            entries = ownership.taken_over(there["metadata"].get("managedFields") or ())
            await self._cluster.replace_managers(kind, there, entries)

    async def _choose_victims(self, key: Key, wanted: Manifest) -> None:
        """Have idle workers removed first, whether a person, an HPA or the autoscaler scales down."""
        workers = victims.candidates(self._caches.deployments.get(key), wanted, self._caches.workers(key))
        for pod in await self._prepare_shrink(key, workers) if workers else ():
            self._caches.observe_pod(pod)

    async def _report(self, key: Key, manifest: Manifest, old: Status, new: Status) -> float | None:
        """Write the status if it has changed. Returns the seconds that a minor change must wait; None: no need to
        wait."""
        if writing.is_same(old, new):
            return None
        now = self._clock()
        since = (now - self._reported[key]).total_seconds() if key in self._reported else MINOR_SECONDS
        if writing.is_minor(old, new) and since < MINOR_SECONDS:
            return MINOR_SECONDS - since
        if writing.is_only_queue_counts(old, new):
            # After a start all pools have such changes: they are not all written at once.
            since = (now - self._reported.get(key, self._started)).total_seconds()
            pause = writing.queue_counts_seconds(len(self._caches.pools))
            if since < pause:
                return pause - since
        try:
            written = await self._cluster.write_status(manifest["metadata"], new)
        except ApiError as error:
            if error.status == 404:
                self._caches.remove_pool(key, version_of(manifest))
                return None
            raise
        self._caches.observe_pool(written)
        self._reported[key] = now
        return None

    async def _report_unreadable(self, key: Key, manifest: Manifest, message: str) -> Result:
        old = Status.model_validate(manifest.get("status") or {})
        generation = manifest["metadata"].get("generation", 1)
        await self._report(key, manifest, old, compute.unreadable(old, generation, message, self._clock()))
        return Result(refused=True, again_seconds=0.0 if self._is_outdated(key, manifest) else None)

    def _is_outdated(self, key: Key, manifest: Manifest) -> bool:
        """Whether the pool was changed during the pass.

        No event reports that change: the response to the status write brings it into the cache and is newer than the
        change's own event, which therefore counts as old when it arrives.

            pass:    reads version 1 ........ writes status -> response: version 3, with the new spec
            person:            writes spec: version 2
            watch:                                                       version 2 (old), version 3 (known)
        """
        now = self._caches.pools.get(key)
        return now is not None and _requested(now) != _requested(manifest)

    async def _emit(self, pool: CeleryWorkerPool, events: list[Event]) -> None:
        key = str(Key(pool.metadata.namespace, pool.metadata.name))
        for event in events:
            level = logging.WARNING if event.kind == "Warning" else logging.INFO
            logger.log(level, "%s: %s", event.reason, event.message, extra={"pool": key, "reason": str(event.reason)})
        try:
            for event in events:
                await self._cluster.emit(pool, event, self._clock())
        except ApiError as error:
            # The conditions say the same as the events, so a pass does not fail for an event.
            level = logging.DEBUG if refusals.is_leaving(error) else logging.WARNING
            logger.log(level, "events could not be recorded: %s", error, extra={"pool": key, "reason": error.reason})


def _why_unreadable(manifest: Manifest, error: ValidationError) -> str:
    if TOO_LARGE in manifest["spec"]:
        return f"the spec is larger than {MAX_SPEC // 1024} KiB: move large values into a ConfigMap"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _dispute_seconds(dispute: Dispute, now: datetime) -> float:
    """When to look again: when the pause ends, or when the dispute may be over."""
    return dispute.seconds_left(now) or max(1.0, dispute.seconds_to_end(now))


def _requested(pool: Manifest) -> tuple[object, ...]:
    """What users set in a pool: everything but its status."""
    metadata = pool["metadata"]
    return metadata["uid"], metadata.get("generation"), metadata.get("annotations"), metadata.get("deletionTimestamp")


def _shown(action: Apply | Delete) -> str:
    match action:
        case Delete():
            return f"delete {action.kind} {action.name}"
        case Apply():
            verb = "update" if action.uid else "create"
            return f"{verb} {action.manifest['kind']} {action.manifest['metadata']['name']}"


def _conflict(there: Manifest) -> Conflict:
    owner = observed.controller(there)
    shown = f"{owner['kind']} {owner['name']}" if owner else ""
    return Conflict(kind=there["kind"], name=there["metadata"]["name"], owner=shown)


def _repairs(pool: CeleryWorkerPool, action: Apply | Delete, before: Manifest | None) -> list[Event]:
    """Events about changes that were not caused by the pool's spec: somebody else changed an owned object."""
    settled = pool.status.observed_generation == pool.metadata.generation
    was_stalled = any(condition.type == "Stalled" for condition in pool.status.conditions)
    if not settled or was_stalled or isinstance(action, Delete):
        return []
    kind, name = action.manifest["kind"], action.manifest["metadata"]["name"]
    if kind == "Deployment" and before is not None:
        wanted = observed.template_hash(action.manifest)
        if wanted != observed.template_hash(before) and not action.editor:
            message = "the pod template changed with a Secret or the operator's release: the workers are replaced"
            return [Event(kind="Normal", reason=EventReason.ROLLED, message=message)]
    by = f"; last changed by {action.editor}" if action.editor and action.editor not in action.reason else ""
    if action.is_correction and action.uid and not action.editor and kind != "Secret":
        by = "; Kubernetes does not record who removes a field"
    return [Event(kind="Normal", reason=EventReason.REPAIRED, message=f"{kind} {name}: {action.reason}{by}")]
