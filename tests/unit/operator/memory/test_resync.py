"""What the caches do when a watch has missed something. The cluster is a dictionary here; the real one is asked by the
integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.exceptions import ApiError, StartError
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.memory.intake import Intake
from celeriac_operator.memory.resync import Resync
from celeriac_operator.metrics import Metrics
from celeriac_operator.workqueue import WorkQueue

EMAILS = Key("shop", "emails")


def an_object(name: str, version: int, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": {**metadata, **more.pop("metadata", {})}, "spec": {"app": "a", "image": "b"}, **more}


class World:
    """Objects by kind, as the cluster has them."""

    def __init__(self) -> None:
        self.objects: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in kinds.WATCHED}
        self.version = 100
        self.fails: ApiError | None = None
        self.read_names: list[str] = []

    async def pages(self, kind: Kind, **_: Any) -> AsyncIterator[tuple[str, int, list[dict[str, Any]]]]:
        if self.fails:
            raise self.fails
        yield "", self.version, self.objects[kind]

    async def read(self, kind: Kind, _namespace: str, name: str) -> dict[str, Any] | None:
        self.read_names.append(name)
        return next((each for each in self.objects[kind] if each["metadata"]["name"] == name), None)


class Setting:
    """A resync with everything around it; `during_wait` runs while it waits for events on their way."""

    def __init__(self) -> None:
        self.world, self.caches, self.metrics = World(), Caches(), Metrics()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.intake = Intake(self.caches, self.queue, self.metrics)
        self.during_wait: list[Any] = []
        self.resync = Resync(
            self.world,  # type: ignore[arg-type]  # what it uses of a cluster
            self.caches,
            self.intake,
            self.queue,
            self.metrics,
            period_seconds=300,
            sleep=self._sleep,
        )

    async def _sleep(self, _seconds: float) -> None:
        for call in self.during_wait:
            call()

    def knows(self, *manifests: dict[str, Any], kind: Kind = kinds.POOL) -> None:
        for manifest in manifests:
            self.intake.found(kind, manifest)

    async def drain(self) -> set[Key]:
        keys = set()
        while self.queue.depth():
            key = await self.queue.get()
            self.queue.done(key)
            keys.add(key)
        return keys


@pytest.fixture
def setting() -> Setting:
    return Setting()


async def test_a_true_cache_needs_nothing(setting: Setting) -> None:
    setting.knows(an_object("emails", 5))
    setting.world.objects[kinds.POOL] = [an_object("emails", 5)]
    await setting.drain()
    assert set((await setting.resync.run_once()).values()) == {0}
    assert await setting.drain() == set()


async def test_what_is_gone_is_taken_out_and_looked_at(setting: Setting) -> None:
    deployment = an_object("emails", 5)
    setting.knows(deployment, kind=kinds.DEPLOYMENT)
    await setting.drain()
    assert (await setting.resync.run_once())["Deployment"] == 1
    assert setting.caches.deployments.get(EMAILS) is None
    assert await setting.drain() == {EMAILS}


async def test_what_came_after_the_list_stays(setting: Setting) -> None:
    setting.world.version = 4
    setting.knows(an_object("emails", 5))
    await setting.resync.run_once()
    assert setting.caches.pools.get(EMAILS) is not None


async def test_an_event_that_is_on_its_way_is_waited_for(setting: Setting) -> None:
    setting.knows(an_object("emails", 5))
    setting.world.objects[kinds.POOL] = [an_object("emails", 6)]
    setting.during_wait = [lambda: setting.knows(an_object("emails", 6))]
    assert (await setting.resync.run_once())["CeleryWorkerPool"] == 0
    assert setting.resync.deaf() == ""


async def test_a_lost_event_is_made_up_for_and_the_second_time_the_watch_is_called_deaf(setting: Setting) -> None:
    setting.knows(an_object("emails", 5))
    for version in (6, 7):
        setting.world.objects[kinds.POOL] = [an_object("emails", version)]
        assert (await setting.resync.run_once())["CeleryWorkerPool"] == 1
        assert setting.caches.pools.version(EMAILS) == version
    assert setting.resync.deaf() == "the watch of celeryworkerpools delivers no events"
    await setting.resync.run_once()
    assert setting.resync.deaf() == ""


async def test_a_new_object_that_no_event_told_of_is_found(setting: Setting) -> None:
    setting.world.objects[kinds.POOL] = [an_object("emails", 5)]
    await setting.resync.run_once()
    assert await setting.drain() == {EMAILS}


async def test_secrets_that_no_pool_names_are_not_read(setting: Setting) -> None:
    broker = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}
    pool = an_object("emails", 5)
    pool["spec"].update(broker)
    setting.knows(pool)
    setting.knows(an_object("redis", 6, data={}), kind=kinds.SECRET)
    setting.world.objects[kinds.POOL] = [pool]
    setting.world.objects[kinds.SECRET] = [an_object("redis", 7, data={}), an_object("other", 8, data={})]
    assert (await setting.resync.run_once())["Secret"] == 1
    assert setting.world.read_names == ["redis"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        pytest.param(ApiError(404, "NotFound", "page not found"), "Install the CRD", id="no CRD"),
        pytest.param(
            ApiError(403, "Forbidden", "User x cannot list"),
            "Grant the verbs list and watch on celeryworkerpools of celeriac.dev",
            id="no permission",
        ),
        pytest.param(
            ApiError(401, "Unauthorized", "no"), "does not accept the operator's credentials", id="no account"
        ),
        pytest.param(ApiError(0, "NoAnswer", "timeout"), "cannot be listed: timeout", id="no answer"),
    ],
)
async def test_it_does_not_start(setting: Setting, error: ApiError, sentence: str) -> None:
    setting.world.fails = error
    with pytest.raises(StartError, match=sentence):
        await setting.resync.load()
