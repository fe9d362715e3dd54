"""How are objects of the cluster read and written? No other module sends requests for pools and what they own.

Every write is bound to the object on which the decision was based: an apply carries the observed uid, so it fails
rather than change another object of the same name. Before an object is created, the module checks that none exists.
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
from celeriac_operator.manifest import Draft, Manifest
from celeriac_operator.printable import printable
from celeriac_operator.resource import GROUP, KIND, VERSION, CeleryWorkerPool, Status

PAGE = 500
"""Objects on one page of a list: a compromise between the number of requests and memory."""

COMPONENT = "celeriac-operator"

# An apply with an unknown field is refused in any case; with field validation the server would parse the body twice.
WRITTEN = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Ignore"}


class OccupiedError(OperatorError):
    """An object that should not exist has the name; `there` is that object."""

    def __init__(self, there: Manifest) -> None:
        super().__init__(f"{there['kind']} {there['metadata']['name']} exists")
        self.there = there


class Cluster:
    """The cluster, or those of its namespaces that the operator watches."""

    def __init__(self, transport: Transport, namespaces: tuple[str, ...] = ()) -> None:
        self._transport = transport
        self._namespaces = namespaces or ("",)

    async def pages(
        self, kind: Kind, *, label_selector: str = "", metadata_only: bool = False
    ) -> AsyncIterator[tuple[str, int, list[Manifest]]]:
        """Yield the pages of a list of the objects that concern the operator: namespace (empty: all), version, objects.

        Raises:
            ApiError: the list was refused or interrupted; the pages so far are incomplete.
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
                # The items of a list have no apiVersion and no kind.
                items: list[Manifest] = [
                    {**item, "apiVersion": _api_version(kind), "kind": kind.kind} for item in answer["items"] or ()
                ]
                yield namespace, int(metadata["resourceVersion"]), items
                if not metadata.get("continue"):
                    break
                query["continue"] = metadata["continue"]

    async def read(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Read one object; None: it does not exist.

        Raises:
            ApiError: it cannot be read.
        """
        try:
            return await self._transport.request("GET", kind.path(namespace, name), plural=kind.plural)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def replace_managers(self, kind: Kind, there: Manifest, entries: list[Draft]) -> None:
        """Set the managedFields of the object, which changes none of its fields.

        Raises:
            ApiError: refused; 409 if the object has changed since it was read.
        """
        metadata = there["metadata"]
        version = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        await self._transport.request(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"]),
            plural=kind.plural,
            query={"fieldManager": names.FIELD_MANAGER},
            body={"metadata": {**version, "managedFields": entries}},
            content_type=MERGE_PATCH,
        )

    async def apply(self, kind: Kind, manifest: Manifest, uid: str) -> Manifest:
        """Apply the manifest server-side; returns the resulting object.

        With a uid, the apply is forced: fields that other managers have set are taken over. Without one, the object
        must not exist yet.

        Raises:
            OccupiedError: the object exists though it should not.
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
            # A new object is not forced: if somebody creates it in between, their fields are kept.
            query=WRITTEN | {"force": "true" if uid else "false"},
            body=body,
            content_type=APPLY_PATCH,
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid; does nothing if it is gone or another object has its name.

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
        """Replace the pool's status; returns the resulting pool.

        Raises:
            ApiError: refused; 404 or 409 if the pool is gone or another pool has its name.
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

        The write is bound to the version of the pool on which the decision was based.

        Raises:
            ApiError: refused; 404 or 409 if the pool is gone or another pool has its name.
        """
        return await self._transport.request(
            "PATCH",
            kinds.POOL.path(metadata["namespace"], metadata["name"], "scale"),
            plural=kinds.POOL.plural,
            query={"fieldManager": names.SCALER},
            body={
                "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
                "spec": {"replicas": replicas},
            },
            content_type=MERGE_PATCH,
        )

    async def write_deletion_cost(self, namespace: str, name: str, uid: str, cost: int) -> Manifest:
        """Set the pod's deletion cost; returns the resulting pod.

        Raises:
            ApiError: refused; 409 if another manager has set the cost, or if the pod is gone or another pod has its
                name.
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
            "message": printable(event.message, limit=1024),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
        await self._transport.request("POST", kinds.EVENT.path(namespace), plural=kinds.EVENT.plural, body=body)


def _api_version(kind: Kind) -> str:
    return f"{kind.group}/{kind.version}" if kind.group else kind.version
