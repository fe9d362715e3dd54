"""What a pass does when the API server refuses one of its requests, and what it leaves for the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac_operator.cluster.client import Cluster
from celeriac_operator.decide import victims
from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.passes import reconcile
from celeriac_operator.passes.reconcile import Reconciler
from celeriac_operator.settings import Settings

KEY = Key("shop", "emails")
FORBIDDEN = ApiError(403, "Forbidden", 'User "x" cannot do this')
AWAY = ApiError(500, "InternalError", "etcd is away")
SECRETS = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}


class Setting:
    """One pool, an API server that keeps what is applied, and a pass over it. `errors`: by verb and end of the path."""

    def __init__(self, **spec: Any) -> None:
        self.errors: dict[tuple[str, str], ApiError] = {}
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 1
        self.shrunk: list[Sequence[victims.Worker]] = []
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.caches = Caches()
        self.pool: dict[str, Any] = {}
        self.set(**spec)
        self.reconciler = Reconciler(
            Cluster(self),  # type: ignore[arg-type]  # all that it calls is there
            self.caches,
            Settings(worker_image="w:1"),
            lambda: self.now,
            self.prepare_shrink,
        )

    def set(self, **spec: Any) -> None:
        """Change the pool as a person does."""
        metadata = self.pool.get("metadata", {"name": "emails", "namespace": "shop", "uid": "u", "generation": 0})
        self.version += 1
        metadata = {**metadata, "generation": metadata["generation"] + 1, "resourceVersion": str(self.version)}
        self.pool = {**self.pool, "metadata": metadata, "spec": {"app": "a:b", "image": "c", **spec}}
        self.caches.observe_pool(self.pool)

    async def prepare_shrink(self, _: Key, workers: Sequence[victims.Worker]) -> list[Mapping[str, Any]]:
        self.shrunk.append(workers)
        return []

    async def request(self, verb: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        self.requests.append((verb, path))
        for (failing, end), error in self.errors.items():
            if verb == failing and path.endswith(end):
                raise error
        if verb == "GET":
            if path not in self.objects:
                raise ApiError(404, "NotFound", path)
            return self.objects[path]
        if verb == "DELETE":
            return self.objects.pop(path)
        if verb == "POST":
            return {}
        self.version += 1
        metadata = {"uid": f"uid of {path}", "generation": 1, **body["metadata"], "resourceVersion": str(self.version)}
        if path.endswith("/status"):
            self.pool = {**self.pool, "metadata": {**self.pool["metadata"], **metadata}, "status": body["status"]}
            return self.pool
        self.objects[path] = {**body, "metadata": metadata}
        return self.objects[path]

    def writes(self) -> list[str]:
        """The end of the path of each write so far."""
        return [path.rpartition("/")[2] for verb, path in self.requests if verb == "PATCH"]

    def stalled(self) -> str:
        """The reason of the condition Stalled."""
        conditions = self.pool.get("status", {}).get("conditions", ())
        return next((each["reason"] for each in conditions if each["type"] == "Stalled"), "")


async def test_a_pool_that_is_deleted_during_its_pass_is_forgotten() -> None:
    setting = Setting()
    setting.errors["PATCH", "/status"] = ApiError(404, "NotFound", "gone")
    await setting.reconciler.reconcile(KEY)
    assert setting.caches.pools.get(KEY) is None


async def test_a_status_that_cannot_be_written_is_tried_again() -> None:
    setting = Setting()
    setting.errors["PATCH", "/status"] = AWAY
    with pytest.raises(ApiError):
        await setting.reconciler.reconcile(KEY)


async def test_a_secret_that_the_operator_may_not_read_does_not_keep_workers_from_starting() -> None:
    setting = Setting(**SECRETS)
    setting.errors["GET", "/secrets/redis"] = FORBIDDEN
    await setting.reconciler.reconcile(KEY)
    assert setting.writes() == ["emails", "status"]


async def test_a_secret_that_cannot_be_read_for_a_moment_is_not_taken_for_forbidden() -> None:
    setting = Setting(**SECRETS)
    setting.errors["GET", "/secrets/redis"] = AWAY
    with pytest.raises(ApiError):
        await setting.reconciler.reconcile(KEY)
    assert setting.writes() == []


async def test_a_pool_that_is_being_deleted_is_left_to_kubernetes() -> None:
    setting = Setting()
    setting.pool["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    setting.version += 1
    setting.pool["metadata"]["resourceVersion"] = str(setting.version)
    setting.caches.observe_pool(setting.pool)
    await setting.reconciler.reconcile(KEY)
    assert setting.requests == []


async def test_what_was_applied_is_not_applied_again_before_the_watch_brings_it() -> None:
    setting = Setting()
    for _ in range(3):
        await setting.reconciler.reconcile(KEY)
    assert setting.writes() == ["emails", "status"]


async def test_what_a_webhook_changes_in_the_answer_is_not_applied_again() -> None:
    setting = Setting()
    await setting.reconciler.reconcile(KEY)
    (path,) = setting.objects
    there = setting.objects[path]
    there["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror/c"
    setting.version += 1
    metadata = {**there["metadata"], "resourceVersion": str(setting.version)}
    setting.caches.observe_deployment({**there, "metadata": metadata})
    await setting.reconciler.reconcile(KEY)
    assert setting.writes().count("emails") == 1


async def test_a_refused_deployment_is_reported_and_tried_again() -> None:
    setting = Setting(replicas=2)
    setting.errors["PATCH", "/deployments/emails"] = ApiError(422, "Invalid", "spec.template is wrong")
    result = await setting.reconciler.reconcile(KEY)
    assert result.refused
    assert setting.stalled() == "InvalidTemplate"
    assert setting.writes() == ["emails", "status"], "the budget is not created for a Deployment that is not there"


async def test_events_that_cannot_be_recorded_do_not_fail_a_pass() -> None:
    setting = Setting()
    setting.errors["PATCH", "/deployments/emails"] = ApiError(422, "Invalid", "spec.template is wrong")
    setting.errors["POST", "/events"] = ApiError(403, "Forbidden", "exceeded quota: events")
    await setting.reconciler.reconcile(KEY)
    assert ("POST", "/api/v1/namespaces/shop/events") in setting.requests
    assert setting.stalled()


def a_foreign_deployment(**metadata: Any) -> dict[str, Any]:
    metadata = {"name": "emails", "namespace": "shop", "uid": "foreign", "resourceVersion": "1", **metadata}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": {"containers": []}}}}


async def test_a_deployment_of_another_owner_is_reported_and_looked_at_again() -> None:
    setting = Setting()
    setting.objects["/apis/apps/v1/namespaces/shop/deployments/emails"] = a_foreign_deployment()
    result = await setting.reconciler.reconcile(KEY)
    assert setting.writes() == ["status"]
    assert setting.stalled() == "NameConflict"
    assert result.again_seconds == reconcile.CONFLICT_SECONDS


async def test_a_deployment_of_an_earlier_pool_is_waited_for() -> None:
    setting = Setting()
    owner = {"kind": "CeleryWorkerPool", "name": "emails", "uid": "earlier", "controller": True}
    metadata = {"ownerReferences": [owner], "generation": 1}
    setting.caches.observe_deployment(a_foreign_deployment(**metadata))
    result = await setting.reconciler.reconcile(KEY)
    assert setting.writes() == ["status"]
    assert result.again_seconds == reconcile.LEAVING_SECONDS
