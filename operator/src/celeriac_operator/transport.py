"""One request to the Kubernetes API: authentication, JSON, errors, counting. Knows paths, not kinds."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import client, config

from celeriac_operator.exceptions import ApiError, StartError

REQUEST_SECONDS = 30.0
"""An API server that takes longer is not well; the pass is tried again later."""

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Count(Protocol):
    """Called once for each answer."""

    def __call__(self, *, verb: str, plural: str, status: int) -> None: ...


async def connect(agent: str) -> client.ApiClient:
    """A client for the cluster that the pod runs in, else for the one that the kubeconfig names.

    `agent` is what it calls itself: the API server notes it in its audit log.

    Raises:
        StartError: there is neither.
    """
    configuration = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # no types there
        else:
            loading = config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # ditto
            await loading
    except (config.ConfigException, OSError) as error:
        raise StartError(
            f"no Kubernetes cluster to talk to: {error}. Run the operator in a pod with a service account, or set "
            "KUBECONFIG to a kubeconfig file"
        ) from error
    api = client.ApiClient(configuration)
    api.user_agent = agent
    return api


class Transport:
    """Requests through one client.

    `count` is told of each answer. `seconds_left` says how long writes are allowed, in seconds; None: always.
    """

    def __init__(self, api: client.ApiClient, count: Count, *, seconds_left: Callable[[], float] | None = None) -> None:
        self._api = api
        self._count = count
        self._seconds_left = seconds_left

    async def request(
        self,
        verb: str,
        path: str,
        *,
        plural: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """Send a request and return the answer's JSON.

        Raises:
            ApiError: the answer is an error, or there is none within REQUEST_SECONDS; or it is a write, and writes are
                not allowed now.
        """
        parameters = await self._api.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        # The last thing before the request: what was asked earlier may have changed since.
        seconds = REQUEST_SECONDS if verb == "GET" else self._seconds_for_write()
        try:
            answer = await self._api.call_api(*parameters, _request_timeout=seconds)
            text: bytes = await answer.read()  # type: ignore[no-untyped-call]  # the client has no types there
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self._count(verb=verb, plural=plural, status=0)
            raise ApiError(0, "NoAnswer", f"the API server did not answer: {error or type(error).__name__}") from error
        self._count(verb=verb, plural=plural, status=answer.status)
        if answer.status >= 300:
            raise _error(answer.status, text)
        document: dict[str, Any] = json.loads(text)
        return document

    def _seconds_for_write(self) -> float:
        left = self._seconds_left() if self._seconds_left else REQUEST_SECONDS
        if left <= 0:
            raise ApiError(0, "NotLeader", "not written: this replica does not lead any more")
        return min(left, REQUEST_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]  # the client has no types there


def _error(status: int, text: bytes) -> ApiError:
    try:
        answer = json.loads(text)
    except ValueError:
        return ApiError(status, "Unknown", text.decode(errors="replace")[:500])
    return ApiError(status, answer.get("reason", "") or "Unknown", answer.get("message", "") or "no message")
