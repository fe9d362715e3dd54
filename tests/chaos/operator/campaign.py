"""The fault campaign as a whole: a control plane, some slots, all plans, and the account of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tests.chaos.operator import faults, state
from tests.chaos.operator.changes import BUDGET_CHANGES, CHANGES, Change
from tests.chaos.operator.faults import Plan, Seen
from tests.chaos.operator.faults import Store as StoreFault
from tests.chaos.operator.life import Nursery
from tests.chaos.operator.place import Admin, Manifest, Place, RefusedError
from tests.chaos.operator.slot import PATIENCE_SECONDS, WATCHED, Course, Outcome, Slot
from tests.integration.operator.machine import CRD, RULES

from localcluster import flags, processes
from localcluster.controlplane import ControlPlane

PAUSE_SECONDS = 2.0
BASELINES = 5
"""Fault-free runs of a change, at most: two must agree."""

_numbers = itertools.count(1)

Progress = Callable[[str], None]


class UnsteadyError(Exception):
    """Fault-free runs differ: nothing could be judged by them."""


@dataclass
class Account:
    """What a campaign found."""

    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    def failures(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.failure]

    def reached(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.is_reached]

    def as_json(self) -> dict[str, Any]:
        """The report as one object."""
        reached = self.reached()
        return {
            "name": "chaos-operator",
            "seed": self.seed,
            "plans": len(self.outcomes),
            "distinct_plans": len({each.plan for each in reached}),
            "not_reached": [str(each.plan) for each in self.outcomes if not each.is_reached],
            "failed": [{"plan": str(each.plan), "failure": each.failure} for each in self.failures()],
            "changes": len({each.plan.change for each in reached}),
            "by_fault": faults.tally(each.plan for each in reached),
            "seconds": round(self.seconds, 1),
        }


class Campaign:
    """Everything that plans run in. Made by `open_campaign`."""

    def __init__(self, control_plane: ControlPlane, admin: Admin, changes: Sequence[Change], slots: list[Slot]) -> None:
        self._control_plane = control_plane
        self._admin = admin
        self.changes = {change.name: change for change in changes}
        self.slots = slots
        self.courses: dict[tuple[str, bool], Course] = {}

    async def learn(self, progress: Progress, *, only: Sequence[str] = ()) -> list[Plan]:
        """Run every change without a fault; returns every plan that follows. `only`: parts of the changes' names."""
        changes = [each for each in self.changes.values() if not only or any(word in each.name for word in only)]
        runs = [(change, False) for change in changes]
        runs += [(change, True) for change in changes if change.also_down]
        seen: list[Seen] = []

        async def learn_one(slot: Slot, item: tuple[Change, bool]) -> None:
            change, is_down = item
            one, other = await self._agreeing(slot, change, is_down=is_down)
            self.courses[change.name, is_down] = one
            calls = tuple(sorted({*one.calls, *other.calls}))
            seen.append(Seen(change=change.name, is_down=is_down, calls=calls, can_undo=change.undo is not None))
            progress(f"without faults: {len(seen)} of {len(runs)}: {change.name}")

        await self._spread(runs, learn_one)
        return faults.enumerate_plans(sorted(seen, key=lambda each: (each.change, each.is_down)), sorted(WATCHED))

    async def _agreeing(self, slot: Slot, change: Change, *, is_down: bool) -> tuple[Course, Course]:
        """Two fault-free runs that went alike.

        On a very busy machine one may look finished while the operator waits for the processor; not two the same way.
        """
        found: list[Course] = []
        for _ in range(BASELINES):
            outcome = await slot.run(Plan(change=change.name, is_down=is_down), change)
            if outcome.failure or outcome.course is None:
                raise UnsteadyError(f"without any fault: {change.name}: {outcome.failure}")
            for other in found:
                if (other.start, other.end) == (outcome.course.start, outcome.course.end):
                    return other, outcome.course
            found.append(outcome.course)
        one, other = found[:2]
        differs = state.first_difference(one.start, other.start) or state.first_difference(one.end, other.end)
        raise UnsteadyError(f"fault-free runs of {change.name!r} never agree: {differs}")

    async def run(self, plans: Sequence[Plan], account: Account, progress: Progress, *, stop_at: int = 0) -> None:
        """Run plans on all slots; those of the store one kind at a time, since all share it."""
        began = time.monotonic()

        async def run_one(slot: Slot, plan: Plan) -> None:
            if stop_at and len(account.failures()) >= stop_at:
                return
            note(await slot.run(plan, self.changes[plan.change], self.courses[plan.change, plan.is_down]))

        def note(outcome: Outcome) -> None:
            account.outcomes.append(outcome)
            failed = len(account.failures())
            rate = len(account.outcomes) / (time.monotonic() - began)
            progress(f"{len(account.outcomes)} of {len(plans)} plans, {failed} failed, {rate:.1f}/s: {outcome.plan}")
            if outcome.failure:
                progress(f"FAILED {outcome.plan}\n       {outcome.failure}")

        await self._spread([plan for plan in plans if plan.store is None], run_one)
        for fault in StoreFault:
            mine = [plan for plan in plans if plan.store is fault]
            for at in range(0, len(mine), len(self.slots)):
                if stop_at and len(account.failures()) >= stop_at:
                    break
                for outcome in await self._run_with_store(fault, mine[at : at + len(self.slots)]):
                    note(outcome)
        account.seconds += time.monotonic() - began

    async def run_one(self, plan: Plan) -> Outcome:
        """A single plan by itself."""
        if plan.store is not None:
            return (await self._run_with_store(plan.store, [plan]))[0]
        return await self.slots[0].run(plan, self.changes[plan.change], self.courses[plan.change, plan.is_down])

    async def use(self, mutant: str) -> None:
        """Operators that start from now on have this bug; empty: none."""
        await asyncio.gather(*(slot.use(mutant) for slot in self.slots))

    async def _run_with_store(self, fault: StoreFault, plans: Sequence[Plan]) -> list[Outcome]:
        barrier = asyncio.Barrier(len(plans) + 1)

        async def run_one(slot: Slot, plan: Plan) -> Outcome:
            met = False

            async def together(make: Callable[[], Awaitable[object]]) -> None:
                nonlocal met
                met = True
                await barrier.wait()
                await make()

            try:
                return await slot.run(plan, self.changes[plan.change], self.courses[plan.change, False], store=together)
            finally:
                if not met:  # it failed before: the others need not wait
                    await barrier.wait()

        runs = [asyncio.create_task(run_one(slot, plan)) for slot, plan in zip(self.slots, plans, strict=False)]
        if fault is StoreFault.RESTART:
            while barrier.n_waiting < len(plans):  # noqa: ASYNC110 -- a barrier tells nobody who waits at it
                await asyncio.sleep(0.02)
            await self._restart_etcd()
        await barrier.wait()
        if fault is StoreFault.RESTART_AFTER:
            await self._restart_etcd()
        if fault is StoreFault.PAUSE:
            await self._pause_etcd()
        return list(await asyncio.gather(*runs))

    def _etcd(self) -> processes.Process:
        (found,) = [each for each in processes.running(self._control_plane.home) if each.name == "etcd"]
        return found

    async def _restart_etcd(self) -> None:
        plane = self._control_plane
        await asyncio.to_thread(processes.stop, [self._etcd()], grace_seconds=0)
        command = [plane.cache.program("etcd"), *flags.etcd(plane.files)]
        await asyncio.to_thread(processes.start, "etcd", command, home=plane.home, log=plane.files.log("etcd"))

    async def _pause_etcd(self) -> None:
        pid = self._etcd().pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def _spread(self, items: Iterable[Any], work: Callable[[Slot, Any], Awaitable[None]]) -> None:
        todo = iter(list(items))

        async def serve(slot: Slot) -> None:
            for item in todo:
                await work(slot, item)

        running = [asyncio.create_task(serve(slot)) for slot in self.slots]
        try:
            await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)


@contextlib.asynccontextmanager
async def open_campaign(control_plane: ControlPlane, *, slots: int) -> AsyncIterator[Campaign]:
    """A campaign on this control plane, which has controllers. Everything is ended at the end."""
    tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
    number = next(_numbers)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-chaos-")))
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, read_bufsize=2**20))
        admin = Admin(session, control_plane.server, control_plane.token)
        nursery = await stack.enter_async_context(Nursery())
        token = await _grant(control_plane, admin)
        await _await_collector(admin)
        made = []
        for at in range(slots):
            slot = Slot(
                admin=admin,
                operator_token=token,
                session=session,
                nursery=nursery,
                namespace=f"chaos-{number}-{at}",
                folder=folder,
            )
            await slot.start()
            stack.push_async_callback(slot.stop)
            made.append(slot)
        changes = (*CHANGES, *(BUDGET_CHANGES if "poddisruptionbudgets" in WATCHED else ()))
        yield Campaign(control_plane, admin, changes, made)


async def _grant(control_plane: ControlPlane, admin: Admin) -> str:
    """The CRD, and a token of an account with the operator's own rights."""
    await asyncio.to_thread(control_plane.kubectl, "apply", "--server-side", "-f", str(CRD))
    rbac, account = "/apis/rbac.authorization.k8s.io/v1", {"kind": "ServiceAccount", "name": "default"}
    group, metadata = "rbac.authorization.k8s.io", {"name": "celeriac-chaos"}
    subject = {**account, "namespace": "celeriac-chaos"}
    binding = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "celeriac-chaos"}, "subjects": [subject]}
    for path, body in (
        ("/api/v1/namespaces", {}),
        (f"{rbac}/clusterroles", {"rules": RULES}),
        (f"{rbac}/clusterrolebindings", binding),
    ):
        await _create(admin, path, {"metadata": metadata, **body})
    path = "/api/v1/namespaces/celeriac-chaos/serviceaccounts/default/token"

    async def token() -> str:
        found = await admin.request("POST", path, {"spec": {"expirationSeconds": 86400}})
        return str(found["status"]["token"])

    return await _once_possible(token)  # the namespace's account is made by a controller


async def _await_collector(admin: Admin) -> None:
    """Kubernetes' garbage collector looks for new kinds every half minute: wait until it knows ours."""
    place = Place(admin, "celeriac-chaos", "collected")
    pool = await _once_possible(place.pool)
    owner = {"apiVersion": pool["apiVersion"], "kind": pool["kind"], "name": place.name, "uid": pool["metadata"]["uid"]}
    metadata = {"name": place.name, "namespace": place.namespace, "ownerReferences": [owner]}
    await place.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    await place.delete("CeleryWorkerPool", place.name)
    await place.await_gone("Secret", place.name)


async def _create(admin: Admin, path: str, body: Manifest) -> None:
    try:
        await admin.request("POST", path, body)
    except RefusedError as error:
        if error.status != 409:
            raise


async def _once_possible(call: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await call()
        except RefusedError as error:
            if error.status not in (404, 405) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)
