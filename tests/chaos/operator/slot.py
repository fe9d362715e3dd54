"""One plan at a time in a namespace of its own: an operator, the proxy before it, and the steps of a plan."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from tests.chaos.operator import state
from tests.chaos.operator.changes import Change
from tests.chaos.operator.faults import AtCall, AtWatch, Call, Plan, Watch
from tests.chaos.operator.life import Life, Nursery, free_port
from tests.chaos.operator.place import PATIENCE_SECONDS, POOL_LABEL, Admin, Manifest, Place
from tests.chaos.operator.proxy import UNSEEN, Injector, Proxy
from tests.chaos.operator.state import Identity, State

from celeriac_operator.cluster import kinds

WATCHED = frozenset(kind.plural for kind in kinds.WATCHED)
QUIET_SECONDS = 0.25
"""Seconds without a request of the operator: longer than all its shortened waits except the slow ones."""

REST_SECONDS = 1.5
"""Seconds without any change after which a run without faults has ended."""

WATCH_RELEASE_SECONDS = 0.3
RESYNC_SECONDS = "2"
LAST_LINES = 12

MUTANT_PATIENCE_SECONDS = 20.0
"""A bug shows itself by a state that never comes; nobody needs to wait for it for a minute."""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a fault-free run went: what every other run of the change must come to."""

    start: State
    end: State
    calls: tuple[Call, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a plan went.

    Attributes:
        failure: in words; empty: all is as it should be.
        is_reached: the faults have happened.
        course: the run's own.
    """

    plan: Plan
    failure: str
    is_reached: bool
    seconds: float
    course: Course | None = None


class FailedError(Exception):
    """The plan failed; the text says how."""


def _as_it_is(seen: State) -> State:
    return seen


class Slot:
    """A namespace and an operator that serves it."""

    def __init__(
        self,
        *,
        admin: Admin,
        operator_token: str,
        session: aiohttp.ClientSession,
        nursery: Nursery,
        namespace: str,
        folder: Path,
    ) -> None:
        self._admin = admin
        self._nursery = nursery
        self._namespace = namespace
        self._mutant = ""
        self._patience_seconds = PATIENCE_SECONDS
        self._proxy = Proxy(session, admin.server, operator_token)
        self._kubeconfig = folder / f"{namespace}.kubeconfig"
        self.log = folder / f"{namespace}.log"
        self._life: Life | None = None
        self._environment: dict[str, str] = {}
        self._exits = 0
        self._last_exit = ""

    async def start(self) -> None:
        """The namespace, and the way to the API server."""
        await self._admin.request("POST", "/api/v1/namespaces", {"metadata": {"name": self._namespace}})
        await self._proxy.start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": self._proxy.url}}],
            "users": [{"name": "x", "user": {"token": "x"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
        self._kubeconfig.write_text(json.dumps(config))

    async def stop(self) -> None:
        """End the operator; its namespace stays."""
        await self._end_life()
        await self._proxy.stop()

    async def use(self, mutant: str) -> None:
        """Operators that start from now on have this bug; empty: none."""
        await self._end_life()
        self._mutant = mutant
        self._patience_seconds = MUTANT_PATIENCE_SECONDS if mutant else PATIENCE_SECONDS

    async def run(
        self,
        plan: Plan,
        change: Change,
        wanted: Course | None = None,
        *,
        store: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]] | None = None,
    ) -> Outcome:
        """One plan. Without a wanted course it is a fault-free run, whose own course is what is asked for.

        `store` makes the change together with the fault of the store.
        """
        began = time.monotonic()
        place = Place(self._admin, self._namespace, f"pool-{next(_numbers):05d}")
        injector = Injector(kill=self._kill, take_back=lambda: change.undo(place) if change.undo else asyncio.sleep(0))
        failure, is_reached, course = "", False, None
        try:
            course, is_reached = await self._run(plan, change, wanted, place, injector, store)
        except (FailedError, TimeoutError) as error:
            failure = f"{error or type(error).__name__}\n{self._last_words(place)}"
            is_reached = True
            await self._end_life()  # nothing of this may reach the next plan
        self._proxy.injector = None
        self._proxy.streams.arm(None)
        if plan.faults and any(isinstance(each, AtWatch) and each.how is Watch.DEAF for each in plan.faults):
            await self._end_life()
        try:
            await self._clean(place)
        except TimeoutError as error:
            failure = failure or f"after the pool's deletion: {error}"
            await self._end_life()
        return Outcome(
            plan=plan, failure=failure, is_reached=is_reached, seconds=time.monotonic() - began, course=course
        )

    async def _run(
        self,
        plan: Plan,
        change: Change,
        wanted: Course | None,
        place: Place,
        injector: Injector,
        store: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]] | None,
    ) -> tuple[Course, bool]:
        proxy = self._proxy
        self._exits = 0
        is_deaf = any(isinstance(each, AtWatch) and each.how is Watch.DEAF for each in plan.faults)
        environment = {"CELERIAC_RESYNC_SECONDS": RESYNC_SECONDS} if is_deaf else {}
        if environment != self._environment:
            await self._end_life()
        self._environment = environment
        proxy.injector = injector
        words = {place.name: "<pool>", place.namespace: "<namespace>"}
        await self._ensure_life()  # some starting points need what it does
        if change.before:
            await change.before(place)
        start, objects = await self._settle(
            place, Identity(), words, lambda: wanted.start if wanted else None, "at the start"
        )
        identity = state.identify(objects)
        proxy.forget()
        at_calls = [each for each in plan.faults if isinstance(each, AtCall)]
        at_watch = next((each for each in plan.faults if isinstance(each, AtWatch)), None)

        async def taken_back() -> None:
            if plan.is_undone and injector.fired and change.undo:
                await change.undo(place)

        if plan.is_down:
            await self._end_life()
            await change.make(place)
            injector.arm(at_calls)
            proxy.forget()
        else:
            injector.arm(at_calls)
            proxy.streams.arm(at_watch)
            await (store(lambda: change.make(place)) if store else change.make(place))
            if at_watch is not None:
                await asyncio.sleep(WATCH_RELEASE_SECONDS)
                proxy.streams.release()
        view = state.without_history if plan.ends_as_it_began() or change.is_race else _as_it_is
        began_as, ends_as = state.normalise(objects, identity, words), wanted.end if wanted else None

        def goal() -> State | None:
            return began_as if plan.ends_as_it_began() and injector.fired else ends_as

        end, _ = await self._settle(place, identity, words, goal, "at the end", before_restart=taken_back, view=view)
        is_reached = not injector.faults
        injector.disarm()
        calls = tuple(proxy.calls)
        self._judge(plan)
        return Course(start=start, end=end, calls=calls), is_reached

    def _judge(self, plan: Plan) -> None:
        # On a busy machine an answer may come too late by itself: then the operator has done what it should.
        was_slow = bool(self._proxy.abandoned)
        if self._proxy.vain and not was_slow and not plan.may_repeat_a_write():
            raise FailedError(f"wrote what was already so: {', '.join(self._proxy.vain)}")
        if self._exits and not was_slow and not (plan.is_down or plan.store):
            raise FailedError(f"the operator ended by itself {self._exits} times, the last time {self._last_exit}")

    async def _settle(
        self,
        place: Place,
        identity: Identity,
        words: Mapping[str, str],
        goal: Callable[[], State | None],
        when: str,
        *,
        before_restart: Callable[[], Awaitable[None]] | None = None,
        view: Callable[[State], State] = _as_it_is,
    ) -> tuple[State, dict[str, list[Manifest]]]:
        """Wait until the operator is quiet and the state is the goal; without one, until everything stands still."""
        deadline = time.monotonic() + self._patience_seconds
        since, last, shown = time.monotonic(), None, "the operator is never quiet"
        is_traced = False
        while True:
            await self._ensure_life(before_restart)
            if self._proxy.quiet_seconds() >= QUIET_SECONDS and self._proxy.streams.watched() >= WATCHED:
                objects = await capture(place)
                seen, wanted = view(state.normalise(objects, identity, words)), goal()
                if seen != last:
                    since, last = time.monotonic(), seen
                stood = time.monotonic() - since
                shown = state.first_difference(view(wanted), seen) if wanted is not None else ""
                is_quiet = self._proxy.quiet_seconds() >= QUIET_SECONDS
                is_done = not shown if wanted is not None else stood >= REST_SECONDS
                if is_quiet and is_done and is_at_rest(objects):
                    if wanted is not None or is_traced:
                        return seen, objects
                    await self._trace(place.admin, deadline)
                    is_traced = True
            if time.monotonic() > deadline:
                missing = WATCHED - self._proxy.streams.watched()
                shown = f"no watch of {', '.join(sorted(missing))}" if missing else shown
                raise FailedError(f"{when}: {shown or 'the objects do not come to rest'}")
            await asyncio.sleep(0.05)

    async def _trace(self, admin: Admin, deadline: float) -> None:
        """Have the operator look at another pool: a quiet one may only be waiting for the processor."""
        other = Place(admin, self._namespace, f"{UNSEEN}{next(_numbers):05d}")
        await other.pool(suspend=True)
        while True:
            there = await other.get("CeleryWorkerPool", other.name)
            if there and (there.get("status") or {}).get("observedGeneration"):
                break
            if time.monotonic() > deadline:
                raise FailedError("the operator does not answer another pool")
            await asyncio.sleep(0.05)
        await other.delete("CeleryWorkerPool", other.name)

    async def _ensure_life(self, before_start: Callable[[], Awaitable[None]] | None = None) -> None:
        """What a kubelet does."""
        if self._life is not None:
            if not self._life.ended.is_set():
                return
            if not self._life.was_killed:
                self._exits += 1
                self._last_exit = f"with code {self._life.code}: {self._tail()}"
                await asyncio.sleep(min(1.0, 0.1 * self._exits))
            if before_start is not None:
                await before_start()
        environment = {
            "KUBECONFIG": str(self._kubeconfig),
            "CELERIAC_WORKER_IMAGE": "celeriac-worker:1",
            "CELERIAC_WATCH_NAMESPACES": self._namespace,
            "CELERIAC_HEALTH_PORT": str(free_port()),
            "CELERIAC_METRICS_PORT": "0",
            "CELERIAC_LOG_LEVEL": "DEBUG",
            **self._environment,
        }
        self._life = await self._nursery.start(environment=environment, log=self.log, mutant=self._mutant)

    def _kill(self) -> None:
        assert self._life is not None
        self._life.kill()

    async def _end_life(self) -> None:
        if self._life is not None:
            self._life.kill()
            await self._life.ended.wait()
            self._life = None

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(["", *(f"         {line[:240]}" for line in lines[-LAST_LINES:])])

    def _last_words(self, place: Place) -> str:
        """Of the operator about the pool."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        mine = [line for line in lines if place.name in line and " DEBUG " not in line]
        return "\n".join(f"         {line[:240]}" for line in mine[-LAST_LINES:])

    async def _clean(self, place: Place) -> None:
        """Delete the pool and what people made; what the operator made must go by itself."""
        await place.delete("CeleryWorkerPool", place.name)
        for name in (place.broker, place.dsn):
            await place.delete("Secret", name)
        theirs = await place.get("Deployment", place.name)
        if theirs is not None and not theirs["metadata"].get("ownerReferences"):
            await place.delete("Deployment", place.name)
        deadline = time.monotonic() + self._patience_seconds
        while True:
            objects = await capture(place)
            left = [f"{each['kind']} {each['metadata']['name']}" for items in objects.values() for each in items]
            if not left:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{', '.join(left)} stayed")
            await asyncio.sleep(0.1)


async def capture(place: Place) -> dict[str, list[Manifest]]:
    """All objects of the pool."""
    found = await asyncio.gather(*(place.list(kind, f"{POOL_LABEL}={place.name}") for kind in state.KINDS[1:]))
    pool = await place.get("CeleryWorkerPool", place.name)
    objects = dict(zip(state.KINDS[1:], found, strict=True))
    objects["CeleryWorkerPool"] = [pool] if pool else []
    for kind, items in objects.items():
        for each in items:
            each["kind"] = kind
    return objects


def is_at_rest(objects: Mapping[str, list[Manifest]]) -> bool:
    """Whether Kubernetes' own controllers have done their part."""
    pools = {each["metadata"]["uid"] for each in objects["CeleryWorkerPool"]}
    for kind in ("Deployment", "Secret", "PodDisruptionBudget"):
        for each in objects[kind]:
            owners = each["metadata"].get("ownerReferences") or []
            if any(owner["kind"] == "CeleryWorkerPool" and owner["uid"] not in pools for owner in owners):
                return False
    for each in (*objects["Deployment"], *objects["ReplicaSet"]):
        status = each.get("status") or {}
        if status.get("observedGeneration", 0) < each["metadata"]["generation"]:
            return False
    wanted = sum(each["spec"].get("replicas", 0) for each in objects["ReplicaSet"])
    there = sum(each["status"].get("replicas", 0) for each in objects["ReplicaSet"])
    shown = sum(each["status"].get("replicas", 0) for each in objects["Deployment"])
    return wanted == there == shown
