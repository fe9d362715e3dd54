"""A reverse proxy between one operator and the API server, that does to its requests and watches what a plan says.

It sees every request, so it is also the witness: which calls were made, which of them changed nothing, how long the
operator has been quiet. `Injector` decides and does the harm; `Proxy` passes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from tests.chaos.operator.faults import (
    ALL_WATCHES,
    ANY_WRITE,
    KILLS,
    STATUSES,
    TWICE,
    AtCall,
    AtWatch,
    Call,
    How,
    Watch,
)

LATE_SECONDS = 0.5
HUNG_SECONDS = 60.0
"""Longer than the operator waits for an answer."""

UNSEEN = "trace-"
"""Objects of this name are not part of any plan."""

_PATH = re.compile(
    r"/apis?(?:/[^/]+)?/v[^/]+/(?:namespaces/[^/]+/)?(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the proxy knows of a request before it passes it on."""

    verb: str
    resource: str
    name: str
    is_watch: bool


def read_request(method: str, path: str, *, is_watch: bool) -> Request:
    """Verb and resource from method and path. Discovery has resource `discovery`."""
    found = _PATH.fullmatch(path)
    if found is None:
        return Request(verb="GET", resource="discovery", name="", is_watch=False)
    resource, name, sub = found["resource"], found["name"] or "", found["sub"]
    verb = "LIST" if method == "GET" and not name else method
    return Request(verb=verb, resource=f"{resource}/{sub}" if sub else resource, name=name, is_watch=is_watch)


def refusal(status: int) -> dict[str, Any]:
    """The API server's own form of an error."""
    reason = {409: "Conflict", 429: "TooManyRequests", 403: "Forbidden", 503: "ServiceUnavailable"}.get(status, "")
    denied = 'admission webhook "chaos" denied the request: not now'
    message = denied if status == 403 else f"made up by the fault campaign: {status}"
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status} | {
        "reason": reason or "InternalError",
        "message": message,
    }


@dataclass
class Injector:
    """The faults of one plan, in their order.

    Attributes:
        kill: ends the operator at once.
        take_back: takes the change back.
        fired: which faults have happened.
    """

    kill: Callable[[], None]
    take_back: Callable[[], Awaitable[None]]
    faults: list[AtCall] = field(default_factory=list)
    fired: list[AtCall] = field(default_factory=list)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: int = 0

    def arm(self, faults: Sequence[AtCall]) -> None:
        """From now on."""
        self.faults, self.fired = list(faults), []
        self._next()

    def disarm(self) -> None:
        """No more harm."""
        self.faults = []

    def _next(self) -> None:
        self.calls.clear()
        self.left = 2 if self.faults and self.faults[0].how in TWICE else 1

    def meets(self, request: Request) -> tuple[Call, How | None]:
        """The call that the request is, and what shall happen at it."""
        kind = (request.verb, request.resource)
        self.calls[kind] += 1
        call = Call(verb=request.verb, resource=request.resource, nth=self.calls[kind])
        if not self.faults:
            return call, None
        fault = self.faults[0]
        wanted = call.is_write() if fault.call == ANY_WRITE else call == fault.call
        if not wanted:
            return call, None
        self.left -= 1
        if self.left:
            self.calls[kind] -= 1  # the next attempt is the same call once more
        else:
            self.fired.append(self.faults.pop(0))
            self._next()
        return call, fault.how


@dataclass
class Streams:
    """The watches of one operator, and the harm done to them."""

    fault: AtWatch | None = None
    refusing: bool = False
    open: dict[asyncio.Task[Any], str] = field(default_factory=dict)
    deaf: set[asyncio.Task[Any]] = field(default_factory=set)
    expiring: set[str] = field(default_factory=set)

    def concerns(self, resource: str) -> bool:
        """Whether the fault is one of this resource's watch."""
        return self.fault is not None and self.fault.resource in (resource, ALL_WATCHES)

    def watched(self) -> set[str]:
        """Resources with an open watch."""
        return set(self.open.values())

    def arm(self, fault: AtWatch | None) -> None:
        """From now on, and for the watches that are open."""
        self.fault = fault
        concerned = [task for task, resource in self.open.items() if self.concerns(resource)]
        if fault is None:
            self.refusing = False
            self.expiring.clear()
        elif fault.how is Watch.DEAF:
            self.deaf.update(concerned)
        elif fault.how in (Watch.CUT, Watch.EXPIRED):
            self.refusing = True
            if fault.how is Watch.EXPIRED:
                self.expiring.update(self.open[task] for task in concerned)
            for task in concerned:
                task.cancel()

    def release(self) -> None:
        """Watches may be opened again."""
        self.refusing = False


class Proxy:
    """One operator's way to the API server; `url` after `start`.

    Attributes:
        calls: requests since `forget`, watches and discovery left out.
        vain: writes that left the object as it was.
        abandoned: requests that the operator did not wait for: it was killed, or the machine is very busy.
    """

    def __init__(self, session: aiohttp.ClientSession, server: str, token: str) -> None:
        self._session = session
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}"}
        self._runner: web.AppRunner | None = None
        self._last = time.monotonic()
        self._under_way = 0
        self._versions: dict[tuple[str, str], set[str]] = {}
        self.url = ""
        self.streams = Streams()
        self.injector: Injector | None = None
        self.calls: list[Call] = []
        self.vain: list[str] = []
        self.abandoned = 0

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # Who is killed must not leave its watches behind here.
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close everything."""
        for task in list(self.streams.open):
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    def forget(self) -> None:
        """A new account of calls begins."""
        self.calls, self.vain, self.abandoned = [], [], 0
        if self.injector is not None:
            self.injector.calls.clear()

    def quiet_seconds(self) -> float:
        """How long the operator has asked for nothing; watches do not count."""
        return 0.0 if self._under_way else time.monotonic() - self._last

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        request = read_request(incoming.method, incoming.path, is_watch="watch" in incoming.query)
        if request.is_watch:
            return await self._watch(incoming, request)
        self._under_way += 1
        try:
            return await self._call(incoming, request)
        finally:
            self._under_way -= 1
            self._last = time.monotonic()

    async def _call(self, incoming: web.Request, request: Request) -> web.StreamResponse:
        body = await incoming.read()
        how = None
        is_of_the_plan = request.resource != "discovery" and not request.name.startswith(UNSEEN)
        if self.injector is not None and is_of_the_plan:
            call, how = self.injector.meets(request)
            self.calls.append(call)
        if how in (How.KILL_BEFORE, How.LOST_REQUEST, How.HUNG_REQUEST):
            return await self._break(incoming, how)
        if how in STATUSES:
            headers = {"Retry-After": "1"} if how is How.THROTTLED else {}
            return web.json_response(refusal(STATUSES[how]), status=STATUSES[how], headers=headers)
        if how is How.DENIED:
            return web.json_response(refusal(403), status=403)
        try:
            status, content_type, answer = await self._pass_on(incoming, request, body)
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if how in (How.KILL_AFTER, How.LOST_ANSWER, How.HUNG_ANSWER):
            return await self._break(incoming, how)
        if how is How.CHANGED_MEANWHILE:
            assert self.injector is not None
            await self.injector.take_back()
        return web.Response(status=status, body=answer, headers={"Content-Type": content_type})

    async def _break(self, incoming: web.Request, how: How) -> web.StreamResponse:
        """No answer for this one."""
        if how in KILLS:
            assert self.injector is not None
            self.injector.kill()
        if how in (How.LOST_REQUEST, How.LOST_ANSWER):
            assert incoming.transport is not None
            incoming.transport.abort()
        await asyncio.sleep(HUNG_SECONDS)  # cancelled when the other side gives up or is gone
        return web.Response(status=504)

    async def _pass_on(self, incoming: web.Request, request: Request, body: bytes) -> tuple[int, str, bytes]:
        known = set(self._versions.get((request.resource.partition("/")[0], request.name), ()))
        try:
            async with self._session.request(
                incoming.method,
                f"{self._server}{incoming.raw_path}",
                data=body or None,
                headers={**self._headers, **_passed(incoming)},
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientError as error:
            return 503, "application/json", json.dumps(refusal(503) | {"message": str(error)}).encode()
        if answer.status < 300 and request.verb in ("PATCH", "POST", "GET") and request.name:
            version = json.loads(content).get("metadata", {}).get("resourceVersion", "")
            if request.verb == "PATCH" and version in known:
                self.vain.append(f"{request.verb} {request.resource} {request.name}")
            self._note(request.resource, request.name, version)
        return answer.status, answer.content_type, content

    def _note(self, resource: str, name: str, version: str) -> None:
        self._versions.setdefault((resource.partition("/")[0], name), set()).add(version)

    async def _watch(self, incoming: web.Request, request: Request) -> web.StreamResponse:
        resource, streams = request.resource, self.streams
        while streams.refusing and streams.concerns(resource):  # noqa: ASYNC110 -- as good as an event here
            await asyncio.sleep(0.02)
        outgoing = web.StreamResponse(headers={"Content-Type": "application/json"})
        await outgoing.prepare(incoming)
        if resource in streams.expiring:
            streams.expiring.discard(resource)
            gone = {"type": "ERROR", "object": refusal(410) | {"reason": "Expired", "code": 410}}
            await outgoing.write(json.dumps(gone).encode() + b"\n")
            return outgoing
        task = asyncio.ensure_future(self._stream(incoming, outgoing, resource))
        streams.open[task] = resource
        try:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                await asyncio.wait([task])
        finally:
            task.cancel()
            streams.open.pop(task, None)
            streams.deaf.discard(task)
        if incoming.transport is not None:
            incoming.transport.abort()
        return outgoing

    async def _stream(self, incoming: web.Request, outgoing: web.StreamResponse, resource: str) -> None:
        """Events, one a line, in order; each at its time."""
        lines: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        url = f"{self._server}{incoming.raw_path}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(url, headers={**self._headers, **_passed(incoming)}, timeout=timeout) as answer:
            sender = asyncio.create_task(_send(outgoing, lines))
            me = asyncio.current_task()
            try:
                rest = b""
                async for chunk in answer.content.iter_any():
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        self._learn(resource, line)
                        if me in self.streams.deaf:
                            continue
                        is_late = self.streams.concerns(resource) and self.streams.fault.how is Watch.LATE  # type: ignore[union-attr]  # concerns says so
                        await lines.put((time.monotonic() + LATE_SECONDS * is_late, line))
            finally:
                sender.cancel()

    def _learn(self, resource: str, line: bytes) -> None:
        found = json.loads(line)["object"].get("metadata", {})
        if found.get("name"):
            self._note(resource, found["name"], found.get("resourceVersion", ""))


async def _send(outgoing: web.StreamResponse, lines: asyncio.Queue[tuple[float, bytes]]) -> None:
    while True:
        due, line = await lines.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await outgoing.write(line + b"\n")


def _passed(incoming: web.Request) -> dict[str, str]:
    return {
        name: incoming.headers[name] for name in ("Accept", "Content-Type", "User-Agent") if name in incoming.headers
    }
