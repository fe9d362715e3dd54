"""Deliberate bugs. The campaign is worth what it finds of them; each is put into an operator process at its start.

Most are what an operator in the usual style would do, and work well for as long as nothing goes wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from celeriac_operator import workqueue
from celeriac_operator.cluster import client, kinds, transport
from celeriac_operator.decide import observed, plan, secrets
from celeriac_operator.desired import pod_template
from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory import caches, resync


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One bug.

    Attributes:
        meaning: what the operator does wrong, in words.
        apply: changes the operator in this process.
    """

    meaning: str
    apply: Callable[[], None]


def forget_own_writes() -> None:
    right = client.Cluster.apply

    async def apply(self: Any, kind: Any, manifest: Any, uid: str) -> Any:
        there = await right(self, kind, manifest, uid)
        return {**there, "metadata": {**there["metadata"], "resourceVersion": "0"}}  # older than what is known

    client.Cluster.apply = apply  # type: ignore[method-assign]


def believe_old_events() -> None:
    def put(self: Any, key: Any, version: int, content: Any) -> bool:
        self._entries[key] = caches._Entry(version, content)
        return True

    caches.Store.put = put  # type: ignore[method-assign]


def give_up() -> None:
    workqueue.WorkQueue.retry = lambda *_: 1.0  # type: ignore[method-assign,assignment,misc]


def drop_what_arrives_during_a_pass() -> None:
    def done(self: Any, key: Any) -> None:
        self._out.discard(key)
        self._dirty.pop(key, None)

    workqueue.Schedule.done = done  # type: ignore[method-assign]


def mark_the_template() -> None:
    right = pod_template.build

    def build(*words: Any) -> Any:
        template = right(*words)
        template["metadata"]["annotations"]["celeriac.dev/started-by"] = str(os.getpid())
        return template

    pod_template.build = build  # type: ignore[attr-defined]


def take_over() -> None:
    plan.is_ours = lambda *_: True  # type: ignore[assignment]


def act_on_generations() -> None:
    right = plan.build

    def build(seen: Any, settings: Any) -> Any:
        is_done = seen.pool.status.observed_generation == seen.pool.metadata.generation
        return plan.Plan() if is_done else right(seen, settings)

    plan.build = build  # type: ignore[assignment]


def remember_in_memory() -> None:
    made: set[str] = set()
    right_apply, right_leftovers = client.Cluster.apply, plan._leftovers

    async def apply(self: Any, kind: Any, manifest: Any, uid: str) -> Any:
        made.add(manifest["metadata"]["name"])
        return await right_apply(self, kind, manifest, uid)

    def leftovers(*words: Any) -> Iterator[Any]:
        return (each for each in right_leftovers(*words) if each.name in made)

    client.Cluster.apply = apply  # type: ignore[method-assign]
    plan._leftovers = leftovers  # type: ignore[assignment]


def make_a_second_one() -> None:
    right = client.Cluster.apply

    async def apply(self: Any, kind: Any, manifest: Any, uid: str) -> Any:
        try:
            return await right(self, kind, manifest, uid)
        except ApiError as error:
            if uid or error.status not in (0, 500, 503):
                raise
            metadata = {**manifest["metadata"], "name": f"{manifest['metadata']['name']}-2"}
            return await right(self, kind, {**manifest, "metadata": metadata}, uid)

    client.Cluster.apply = apply  # type: ignore[method-assign]


def replace_by_deleting() -> None:
    right = client.Cluster.apply

    async def apply(self: Any, kind: Any, manifest: Any, uid: str) -> Any:
        if kind is kinds.SECRET and uid:
            await self.delete(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"], uid)
            uid = ""
        return await right(self, kind, manifest, uid)

    client.Cluster.apply = apply  # type: ignore[method-assign]


def take_errors_for_absence() -> None:
    right = client.Cluster.read

    async def read(self: Any, *words: Any) -> Any:
        try:
            return await right(self, *words)
        except ApiError:
            return None

    client.Cluster.read = read  # type: ignore[method-assign]


def take_errors_for_a_deleted_pool() -> None:
    right = client.Cluster.write_status

    async def write_status(self: Any, *words: Any) -> Any:
        try:
            return await right(self, *words)
        except ApiError as error:
            raise ApiError(404, "NotFound", error.message) from error

    client.Cluster.write_status = write_status  # type: ignore[method-assign]


def take_errors_for_done() -> None:
    right = client.Cluster.delete

    async def delete(self: Any, *words: Any) -> None:
        try:
            await right(self, *words)
        except ApiError:
            return

    client.Cluster.delete = delete  # type: ignore[method-assign]


def restart_without_the_secret() -> None:
    right = plan.choose_digest

    def choose_digest(seen: Any) -> str | None:
        return "gone" if plan.missing_secret(seen) else right(seen)

    plan.choose_digest = choose_digest
    plan._must_wait = lambda *_: False  # type: ignore[assignment]


def compare_versions_of_secrets() -> None:
    right = secrets.examine

    def examine(manifest: Any) -> secrets.Facts:
        facts = right(manifest)
        if facts.owner:
            return facts
        values = {
            key: replace(value, digest=value.digest + facts.resource_version) for key, value in facts.values.items()
        }
        return replace(facts, values=values)

    secrets.examine = examine


def believe_an_answer_for_ever() -> None:
    observed.Applied.__eq__ = lambda self, other: self.digest == getattr(other, "digest", None)  # type: ignore[method-assign,assignment]


def trust_watches() -> None:
    resync.Resync.watch_began = lambda _: None  # type: ignore[method-assign]


def never_compare() -> None:
    async def read_missed(*_: Any) -> int:
        return 0

    resync.Resync._read_missed = read_missed  # type: ignore[method-assign]


def never_force() -> None:
    right = transport.Transport.request

    async def request(self: Any, verb: str, path: str, **words: Any) -> Any:
        if (words.get("query") or {}).get("force"):
            words["query"] = {**words["query"], "force": "false"}
        return await right(self, verb, path, **words)

    transport.Transport.request = request  # type: ignore[method-assign]


def start_without_looking() -> None:
    async def load(self: Any) -> None:
        return

    resync.Resync.load = load  # type: ignore[method-assign]
    resync.Resync.watch_began = lambda _: None  # type: ignore[method-assign]


MUTANTS: Mapping[str, Mutant] = {
    call.__name__.replace("_", "-"): Mutant(meaning=meaning, apply=call)
    for call, meaning in (
        (forget_own_writes, "goes by the watch alone, and writes again what it has just written"),
        (believe_old_events, "takes an event that was late for news"),
        (give_up, "does not come back to a pool after an error"),
        (drop_what_arrives_during_a_pass, "overlooks a change that is made while it is busy with the pool"),
        (mark_the_template, "puts something of itself into the pod template, so that its restart replaces the workers"),
        (take_over, "takes any Deployment of the name for its own"),
        (act_on_generations, "does nothing when it has seen the pool's generation before"),
        (remember_in_memory, "removes only what this process remembers to have made"),
        (make_a_second_one, "creates under another name when a creation was not answered"),
        (replace_by_deleting, "deletes the Secret and creates it anew in order to change it"),
        (take_errors_for_absence, "takes an object that could not be read for one that is not there"),
        (take_errors_for_a_deleted_pool, "takes a status that could not be written for a deleted pool"),
        (take_errors_for_done, "takes a deletion that failed for one that was done"),
        (restart_without_the_secret, "replaces the workers when their Secret is deleted"),
        (compare_versions_of_secrets, "replaces the workers when anything at their Secret changes"),
        (believe_an_answer_for_ever, "does not look any more at a Deployment that it has applied once"),
        (trust_watches, "does not look for deletions that a watch has missed"),
        (never_compare, "believes a watch that has gone deaf"),
        (never_force, "accepts the changes of others to its objects"),
        (start_without_looking, "starts to act before it knows what is there"),
    )
}
