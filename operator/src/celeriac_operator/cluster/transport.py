"""How is a request sent to the Kubernetes API? Authentication, JSON, errors, counting. Knows paths, not kinds."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from kubernetes.aio import client, config

from celeriac_operator import bounded
from celeriac_operator.exceptions import ApiError, StartError

REQUEST_SECONDS = 30.0
"""Limit of one request. A request that takes longer fails, and the pass is repeated later."""

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Count(Protocol):
    """Called once for each request."""

    def __call__(self, *, verb: str, plural: str, status: int) -> None: ...


async def connect(agent: str) -> client.ApiClient:
    """Build a client for the cluster that the pod runs in, else for the one in the kubeconfig.

    Args:
        agent: the User-Agent, which appears in the API server's audit log.

    Raises:
        StartError: neither is configured.
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
            f"no Kubernetes cluster is configured: {error}. Run the operator in a pod with a service account, or set "
            "KUBECONFIG to a kubeconfig file"
        ) from error
    prepare(configuration)
    api = client.ApiClient(configuration)
    api.user_agent = agent
    return api


def prepare(configuration: client.Configuration) -> None:
    """Set the client's session options and proxy."""
    # The proxy is determined once. aiohttp's trust_env starts two threads for every request, which takes a seventh of
    # the operator's CPU time.
    configuration.client_session_kwargs = {"trust_env": False, "request_class": _Request}
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)


def proxy_for(server: str) -> str | None:
    """The proxy of HTTPS_PROXY or HTTP_PROXY for this URL; None: there is none, or NO_PROXY excludes the host."""
    url = urllib.parse.urlsplit(server)
    if urllib.request.proxy_bypass(url.hostname or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)


_seconds_left: ContextVar[Callable[[], float] | None] = ContextVar("seconds_left", default=None)
"""Returns the seconds for which the write that is sent in this context is still allowed."""

NOT_LEADER = "not written: this replica is not the leader any more"


class _Request(aiohttp.ClientRequest):
    """A request that checks again whether the write is allowed just before its body is sent.

    Between the decision to write and the first byte a connection may be opened and other tasks may run. A process that
    is stopped in between and continues later could otherwise write after its successor. Only requests with a body are
    checked here; every write has one.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        left = _seconds_left.get()
        if left is None or left() > 0:
            await super().write_bytes(writer, conn, content_length)
        elif conn.protocol is not None:
            conn.protocol.set_exception(aiohttp.ClientConnectionError(NOT_LEADER))


class Transport:
    """Sends requests through one client.

    Args:
        count: called once for each request.
        seconds_left: returns the seconds for which writes are still allowed; None: writes are always allowed.
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
        """Send a request and return the response's JSON.

        Raises:
            ApiError: the response is an error, there is none within REQUEST_SECONDS, or the request is a write and
                writes are not allowed now.
        """
        url = f"{self._api.configuration.host}{path}"
        if query:
            url += f"?{urllib.parse.urlencode(query)}"
        headers = {**self._api.default_headers, "Accept": accept, "Content-Type": content_type}
        # Read for every request: a service account token changes after an hour.
        token = (await self._api.configuration.auth_settings()).get("BearerToken")
        if token and token["value"]:
            headers["Authorization"] = token["value"]
        is_write = verb != "GET"
        seconds = self._seconds_for_write() if is_write else REQUEST_SECONDS
        _seconds_left.set(self._seconds_left if is_write else None)
        try:
            request = self._api.rest_client.request(verb, url, headers, body, _request_timeout=seconds)  # type: ignore[no-untyped-call]  # no types there
            text: bytes = await (answer := await request).read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self._count(verb=verb, plural=plural, status=0)
            raise ApiError(0, "NoAnswer", f"the API server did not respond: {error or type(error).__name__}") from error
        self._count(verb=verb, plural=plural, status=answer.status)
        if answer.status >= 300:
            raise _error(answer.status, text)
        document: dict[str, Any] = bounded.read_manifest(text)
        return document

    def _seconds_for_write(self) -> float:
        left = self._seconds_left() if self._seconds_left else REQUEST_SECONDS
        if left <= 0:
            raise ApiError(0, "NotLeader", NOT_LEADER)
        return min(left, REQUEST_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]  # the client has no types there


def _error(status: int, text: bytes) -> ApiError:
    try:
        answer = bounded.read_manifest(text)
    except ValueError:
        return ApiError(status, "Unknown", text.decode(errors="replace")[:500])
    return ApiError(status, answer.get("reason", "") or "Unknown", answer.get("message", "") or "no message")
