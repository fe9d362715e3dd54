"""One pass, against an API server of a few lines: what happens when somebody writes in the middle of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac_operator.cluster.client import Cluster
from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.passes.reconcile import Reconciler, Result
from celeriac_operator.settings import Settings

KEY = Key("shop", "emails")


class Server:
    """Holds one pool and whatever is applied beside it. `meanwhile` is written to the pool just before its status."""

    def __init__(self, pool: dict[str, Any], meanwhile: Mapping[str, Any] | None = None) -> None:
        self.pool = pool
        self.meanwhile = meanwhile
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 1

    def write(self, manifest: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
        self.version += 1
        written = {"uid": "a-uid", "generation": 1, **manifest["metadata"], **metadata}
        return {**manifest, "metadata": {**written, "resourceVersion": str(self.version)}}

    def change(self, change: Mapping[str, Any]) -> None:
        """As a person does: the generation grows with the spec."""
        generation = self.pool["metadata"]["generation"] + ("spec" in change)
        spec = {**self.pool["spec"], **change.get("spec", {})}
        self.pool = self.write({**self.pool, "spec": spec}, generation=generation, **change.get("metadata", {}))

    async def request(self, verb: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        if verb == "GET":
            if path not in self.objects:
                raise ApiError(404, "NotFound", path)
            return self.objects[path]
        if path.endswith("/status"):
            if self.meanwhile:
                self.change(self.meanwhile)
                self.meanwhile = None
            self.pool = self.write({**self.pool, "status": body["status"]})
            return self.pool
        self.objects[path] = self.write(body)
        return self.objects[path]


def a_stored_pool() -> dict[str, Any]:
    return {
        "apiVersion": "celeriac.dev/v1alpha1",
        "kind": "CeleryWorkerPool",
        "metadata": {"name": "emails", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"app": "shop.celery:app", "image": "shop:1"},
    }


async def one_pass(server: Server) -> tuple[Reconciler, Result]:
    caches = Caches()
    caches.observe_pool(server.pool)

    async def prepare_shrink(*_: object) -> list[Mapping[str, Any]]:
        raise AssertionError("no pool shrinks here")

    cluster = Cluster(server)  # type: ignore[arg-type]  # all that it calls is there
    reconciler = Reconciler(
        cluster,
        caches,
        Settings(worker_image="w:1"),
        lambda: datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC),
        prepare_shrink,
    )
    return reconciler, await reconciler.reconcile(KEY)


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param({"spec": {"replicas": 2}}, id="a spec"),
        pytest.param({"metadata": {"annotations": {"celeriac.dev/upgrade-library": "now"}}}, id="an annotation"),
    ],
)
async def test_what_a_person_writes_just_before_the_status_is_looked_at(meanwhile: dict[str, Any]) -> None:
    # The answer to the status write is newer than the event of the person's write, which is therefore no news.
    server = Server(a_stored_pool(), meanwhile)
    _, result = await one_pass(server)
    assert result.again_seconds == 0


async def test_the_next_pass_does_what_was_written_meanwhile() -> None:
    server = Server(a_stored_pool(), {"spec": {"replicas": 2}})
    reconciler, _ = await one_pass(server)
    await reconciler.reconcile(KEY)
    (deployment,) = [each for each in server.objects.values() if each["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 2


async def test_a_pool_that_nobody_touches_meanwhile_is_not_looked_at_again_for_that() -> None:
    _, result = await one_pass(Server(a_stored_pool()))
    assert result.again_seconds != 0


class LeavingServer(Server):
    """Its namespace is being deleted: what exists may be changed, and nothing can be created."""

    async def request(self, verb: str, path: str, *, body: Any = None, **rest: Any) -> dict[str, Any]:
        if verb != "GET" and not path.endswith("/status"):
            reason = "unable to create new content in namespace shop because it is being terminated"
            raise ApiError(403, "Forbidden", f'deployments.apps "emails" is forbidden: {reason}')
        return await super().request(verb, path, body=body, **rest)


class GoneServer(Server):
    """Its namespace is gone, and the deletion of the pool has not been seen yet."""

    async def request(self, verb: str, path: str, *, body: Any = None, **rest: Any) -> dict[str, Any]:
        if verb != "GET" and not path.endswith("/status"):
            raise ApiError(404, "NotFound", 'namespaces "shop" not found')
        return await super().request(verb, path, body=body, **rest)


@pytest.mark.parametrize("kind_of_server", [LeavingServer, GoneServer])
async def test_a_namespace_that_is_being_deleted_is_neither_a_refusal_nor_a_warning(
    caplog: pytest.LogCaptureFixture, kind_of_server: type[Server]
) -> None:
    server = kind_of_server(a_stored_pool())
    _, result = await one_pass(server)
    assert not result.refused
    assert "Stalled" not in {condition["type"] for condition in server.pool["status"]["conditions"]}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
