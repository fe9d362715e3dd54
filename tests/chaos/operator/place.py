"""What people do in a plan's namespace, and what can be seen there: as the administrator, past the proxy."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.integration.operator.machine import PATHS
from tests.waiting import eventually_async

Manifest = dict[str, Any]

PATHS = {**PATHS, "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets"}
PATIENCE_SECONDS = 60.0
"""For the API server and the controllers on a busy machine."""

POOL_LABEL = "celeriac.dev/pool"


class RefusedError(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Admin:
    """The API server, as its administrator."""

    session: aiohttp.ClientSession
    server: str
    token: str

    async def request(
        self, verb: str, path: str, body: Manifest | None = None, kind: str = "application/json"
    ) -> Manifest:
        """One request. An API server that is away for a moment (its etcd is being restarted) is asked again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        while True:
            try:
                async with self.session.request(verb, f"{self.server}{path}", json=body, headers=headers) as answer:
                    found: Manifest = await answer.json(content_type=None)
                    if answer.status < 300:
                        return found
                    error = RefusedError(answer.status, found.get("message", ""))
            except (aiohttp.ClientError, ValueError) as broken:
                error = RefusedError(500, str(broken))
            if error.status < 500 or time.monotonic() > deadline:
                raise error
            await asyncio.sleep(0.1)


@dataclass
class Place:
    """A namespace with one pool under test in it, and whatever belongs to that."""

    admin: Admin
    namespace: str
    name: str

    def path(self, kind: str, name: str = "", sub: str = "") -> str:
        return "/".join(part for part in (PATHS[kind].format(self.namespace), name, sub) if part)

    @property
    def broker(self) -> str:
        """Name of the Secret with the broker's URL."""
        return f"{self.name}-redis"

    @property
    def dsn(self) -> str:
        """Name of a Secret with a DSN that is not the operator's."""
        return f"{self.name}-dsn"

    def manifest(self, **spec: Any) -> Manifest:
        metadata = {"name": self.name, "namespace": self.namespace}
        spec = {"app": "shop.celery:app", "image": "shop:1", **spec}
        return {"apiVersion": "celeriac.dev/v1alpha1", "kind": "CeleryWorkerPool", "metadata": metadata, "spec": spec}

    async def apply(self, body: Manifest) -> Manifest:
        path = f"{self.path(body['kind'], body['metadata']['name'])}?fieldManager=kubectl&force=true"
        return await self.admin.request("PATCH", path, body, "application/apply-patch+yaml")

    async def pool(self, **spec: Any) -> Manifest:
        """The pool with these fields, and no others, in its spec."""
        return await self.apply(self.manifest(**spec))

    async def secret(self, name: str, labels: Mapping[str, str] | None = None, **values: str) -> None:
        """A Secret with these values, and no others."""
        metadata = {"name": name, "namespace": self.namespace, "labels": {POOL_LABEL: self.name, **(labels or {})}}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        await self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    async def merge(self, kind: str, name: str, patch: Manifest, sub: str = "") -> None:
        await self.admin.request("PATCH", self.path(kind, name, sub), patch, "application/merge-patch+json")

    async def strategic(self, kind: str, name: str, patch: Manifest) -> None:
        path = f"{self.path(kind, name)}?fieldManager=kubectl-edit"
        await self.admin.request("PATCH", path, patch, "application/strategic-merge-patch+json")

    async def delete(self, kind: str, name: str, *, orphan: bool = False) -> None:
        """Nothing happens when it is gone."""
        body = {"propagationPolicy": "Orphan" if orphan else "Background"}
        try:
            await self.admin.request("DELETE", self.path(kind, name), body)
        except RefusedError as error:
            if error.status != 404:
                raise

    async def list(self, kind: str, selector: str = "") -> list[Manifest]:
        query = f"?labelSelector={selector}" if selector else ""
        items: list[Manifest] = (await self.admin.request("GET", f"{self.path(kind)}{query}"))["items"]
        return items

    async def get(self, kind: str, name: str) -> Manifest | None:
        try:
            return await self.admin.request("GET", self.path(kind, name))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def await_gone(self, kind: str, name: str) -> None:
        """Wait until the object does not exist any more."""
        await eventually_async(
            lambda: self.get(kind, name),
            lambda seen: seen is None,
            timeout=PATIENCE_SECONDS,
            what=f"{kind} {name} is deleted",
        )

    async def set_pods(self, **container: Any) -> None:
        """Write what the kubelet would write into the status of each pod, as soon as there is one."""
        pods = await eventually_async(
            lambda: self.list("Pod", f"{POOL_LABEL}={self.name}"), timeout=PATIENCE_SECONDS, what="a pod"
        )
        for pod in pods:
            ready = "True" if container.get("ready") else "False"
            condition = {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}
            blank = {
                "name": "worker",
                "image": "x",
                "imageID": "x",
                "ready": False,
                "started": False,
                "restartCount": 0,
            }
            status = {"phase": "Running", "conditions": [condition], "containerStatuses": [{**blank, **container}]}
            await self.merge("Pod", pod["metadata"]["name"], {"status": status}, "status")
