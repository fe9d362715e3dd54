"""The only door to the cluster: reads objects, applies a plan, writes status and events. Knows nothing of Celery.

Every write is bound to the object that the decision was made about: an apply carries the uid that was observed, so that
it fails instead of touching another object of the same name, and what should not exist yet is looked for first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from celeriac_operator import labels, names
from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.kinds import Kind
from celeriac_operator.cluster.transport import APPLY_PATCH, JSON, MERGE_PATCH, METADATA_LIST, Transport
from celeriac_operator.event import Event
from celeriac_operator.exceptions import ApiError, OperatorError
from celeriac_operator.manifest import Manifest
from celeriac_operator.resource import GROUP, KIND, VERSION, CeleryWorkerPool, Status

PAGE = 500
"""Objects in one answer to a list: a compromise between requests and memory."""

COMPONENT = "celeriac-operator"

# An apply with an unknown field is refused anyway; to look for them beforehand makes the server read the body twice.
WRITTEN = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Ignore"}


class OccupiedError(OperatorError):
    """The name is taken by an object that was not expected; `there` is that object."""

    def __init__(self, there: Manifest) -> None:
        super().__init__(f"{there['kind']} {there['metadata']['name']} exists")
        self.there = there


class Cluster:
    """The cluster, or the namespaces of it that are served."""

    def __init__(self, transport: Transport, namespaces: tuple[str, ...] = ()) -> None:
        self._transport = transport
        self._namespaces = namespaces or ("",)

    async def pages(
        self, kind: Kind, *, label_selector: str = "", metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, int, list[Manifest]]]:
        """Every object of a kind that concerns the operator: namespace (empty: all), version of the list, objects.

        Raises:
            ApiError: the list is refused, or broke off; what came before is not complete.
        """
        selectors = [selector for selector in (kind.label_selector, label_selector) if selector]
        for namespace in self._namespaces:
            query = {"limit": str(PAGE)}
            if selectors:
                query["labelSelector"] = ",".join(selectors)
            if kind.field_selector:
                query["fieldSelector"] = kind.field_selector
            while True:
                answer = await self._transport.request(
                    "GET",
                    kind.path(namespace),
                    plural=kind.plural,
                    query=query,
                    accept=METADATA_LIST if metadata_only else JSON,
                )
                metadata = answer["metadata"]
                # Items of a list do not say what they are.
                items: list[Manifest] = [
                    {**item, "apiVersion": _api_version(kind), "kind": kind.kind} for item in answer["items"] or ()
                ]
                yield namespace, int(metadata["resourceVersion"]), items
                if not metadata.get("continue"):
                    break
                query["continue"] = metadata["continue"]

    async def read(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """One object; None: there is none.

        Raises:
            ApiError: it cannot be read.
        """
        try:
            return await self._transport.request("GET", kind.path(namespace, name), plural=kind.plural)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def apply(self, kind: Kind, manifest: Manifest, uid: str) -> Manifest:
        """Make the object say what the manifest says; returns it as it is then.

        With a uid, fields are taken over from whoever else has set them. Without one the object must not exist yet.

        Raises:
            OccupiedError: it should not exist, and does.
            ApiError: refused; 409 when the object is not the one with this uid.
        """
        metadata = manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if not uid:
            there = await self.read(kind, namespace, name)
            if there is not None:
                raise OccupiedError(there)
        body = {**manifest, "metadata": {**metadata, **({"uid": uid} if uid else {})}}
        return await self._transport.request(
            "PATCH",
            kind.path(namespace, name),
            plural=kind.plural,
            # Not by force where nobody was expected: whoever came in between keeps what is his.
            query=WRITTEN | {"force": "true" if uid else "false"},
            body=body,
            content_type=APPLY_PATCH,
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Remove the object with this uid; nothing happens when it is gone or another one has its name.

        Raises:
            ApiError: refused for another reason.
        """
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        try:
            await self._transport.request("DELETE", kind.path(namespace, name), plural=kind.plural, body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def write_status(self, metadata: Manifest, status: Status) -> Manifest:
        """Replace the pool's status; returns the pool as it is then.

        Raises:
            ApiError: refused; 404 or 409 when the pool is gone or is another one of the same name.
        """
        namespace, name = metadata["namespace"], metadata["name"]
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "uid": metadata["uid"]},
            "status": status.model_dump(by_alias=True, exclude_none=True, mode="json"),
        }
        return await self._transport.request(
            "PATCH",
            kinds.POOL.path(namespace, name, "status"),
            plural=kinds.POOL.plural,
            query=WRITTEN | {"force": "true"},
            body=body,
            content_type=APPLY_PATCH,
        )

    async def scale(self, metadata: Manifest, replicas: int) -> Manifest:
        """Set the pool's number of workers through its scale subresource; returns the Scale.

        Raises:
            ApiError: refused; 404 or 409 when the pool is gone or is another one of the same name.
        """
        return await self._transport.request(
            "PATCH",
            kinds.POOL.path(metadata["namespace"], metadata["name"], "scale"),
            plural=kinds.POOL.plural,
            query={"fieldManager": names.SCALER},
            body={"metadata": {"uid": metadata["uid"]}, "spec": {"replicas": replicas}},
            content_type=MERGE_PATCH,
        )

    async def write_deletion_cost(self, namespace: str, name: str, uid: str, cost: int) -> Manifest:
        """Say how dear the pod with this uid is to its pool; returns the pod as it is then.

        Raises:
            ApiError: refused; 409 when somebody else has set the pod's cost, or the pod is another one or gone.
        """
        metadata = {"name": name, "namespace": namespace, "uid": uid, "annotations": {labels.DELETION_COST: str(cost)}}
        return await self._transport.request(
            "PATCH",
            kinds.POD.path(namespace, name),
            plural=kinds.POD.plural,
            query={"fieldManager": names.FIELD_MANAGER, "force": "false"},
            body={"apiVersion": "v1", "kind": "Pod", "metadata": metadata},
            content_type=APPLY_PATCH,
        )

    async def emit(self, pool: CeleryWorkerPool, event: Event, now: datetime) -> None:
        """Record an event about the pool.

        Raises:
            ApiError: refused.
        """
        namespace = pool.metadata.namespace
        time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{pool.metadata.name}.", "namespace": namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": pool.metadata.name,
                "namespace": namespace,
                "uid": pool.metadata.uid,
            },
            "type": event.kind,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
        await self._transport.request("POST", kinds.EVENT.path(namespace), plural=kinds.EVENT.plural, body=body)


def _api_version(kind: Kind) -> str:
    return f"{kind.group}/{kind.version}" if kind.group else kind.version
