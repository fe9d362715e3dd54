"""How does kopf watch the cluster? Its decorators, which pass each watch event on; nothing is decided here.

Only `on.event` is used. It writes nothing: no annotation, no finalizer, no state on any object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import aiohttp
import kopf
from aiohttp.connector import Connection

from celeriac_operator import bounded
from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.kinds import Kind

Changed = Callable[[Kind, dict[str, Any]], None]

# The API server ends a watch after this time, so no watch is older than an hour.
SERVER_TIMEOUT_SECONDS = 1800
CLIENT_TIMEOUT_SECONDS = SERVER_TIMEOUT_SECONDS + 60
# The API server sends a bookmark every minute, so a silence of this length means a dead connection.
INACTIVITY_SECONDS = 90
CONNECT_SECONDS = 10
# Limit of the list with which every watch begins. While it hangs, changes of its kind are not seen; kopf's default is
# five minutes.
LIST_SECONDS = 30


def register(
    registry: kopf.OperatorRegistry,
    *,
    changed: Changed,
    gone: Changed,
    began: Callable[[], None],
    check_health: Callable[[], str],
) -> None:
    """Connect the watches of all kinds.

    Args:
        changed: called with the new state of an object.
        gone: called with the last state of a deleted object.
        began: called when a watch has listed its objects, of which there may be none.
        check_health: returns what is wrong with the operator, or an empty string.
    """

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.AiohttpSession | None:
        info = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        return _session(info, began) if info else None

    @kopf.on.probe(id="health", registry=registry, errors=kopf.ErrorsMode.PERMANENT)
    def probe(**_: Any) -> str:
        wrong = check_health()
        if wrong:
            raise kopf.PermanentError(wrong)
        return "ok"

    for kind in kinds.WATCHED:
        _watch(registry, kind, changed=changed, gone=gone)


def at_end(registry: kopf.OperatorRegistry, call: Callable[[], None]) -> None:
    """Have `call` called when a signal ends kopf."""

    @kopf.on.cleanup(registry=registry)
    def cleanup(**_: Any) -> None:
        call()


def _watch(registry: kopf.OperatorRegistry, kind: Kind, *, changed: Changed, gone: Changed) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        (gone if event["type"] == "DELETED" else changed)(kind, dict(event["object"]))


def _session(info: kopf.ConnectionInfo, began: Callable[[], None]) -> kopf.AiohttpSession:
    """Build the session as kopf does, and report each list: an empty list causes no event, though objects may be
    gone."""
    tracing = aiohttp.TraceConfig()

    async def ended(_: aiohttp.ClientSession, __: object, request: aiohttp.TraceRequestEndParams) -> None:
        if is_list(request.method, request.url.path, is_watch="watch" in request.url.query):
            began()

    tracing.on_request_end.append(ended)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        trace_configs=[tracing],
        response_class=_Response,
    )
    return kopf.AiohttpSession(
        server=info.server,
        default_namespace=info.default_namespace,
        expiration=info.expiration,
        aiohttp_session=session,
    )


class _Response(aiohttp.ClientResponse):
    """A response whose objects are never nested too deeply for the parser that kopf uses.

    An error of the parser would end the watch, and with it the operator; after each restart it would end again.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """See `aiohttp.ClientResponse`."""
        await super().start(connection)
        self.content = cast("aiohttp.StreamReader", _Lines(self.content))
        return self

    async def json(self, **_: Any) -> Any:
        """See `aiohttp.ClientResponse`."""
        return bounded.read_manifest(await self.read())


class _Lines:
    """A stream that is passed on in whole lines, each of which is an event of a watch."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """See `aiohttp.StreamReader`."""
        rest = b""
        async for data in self._stream.iter_chunked(n):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield bounded.cut_depth(line, bounded.LEVELS) + b"\n"
        if rest:
            yield bounded.cut_depth(rest, bounded.LEVELS)


def is_list(method: str, path: str, *, is_watch: bool) -> bool:
    """Whether the request is the list with which a watch begins."""
    plurals = {kind.plural for kind in kinds.WATCHED}
    return method == "GET" and not is_watch and path.rpartition("/")[2] in plurals


class NoEssence(kopf.DiffBaseStorage):
    """Stores nothing of an object, so no difference is found.

    For change handlers, of which this operator has none, kopf would copy every object twice at each event.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return an empty essence."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Return no stored essence."""
        return None

    def store(self, **_: Any) -> None:
        """Write nothing."""


def settings() -> kopf.OperatorSettings:
    """kopf's settings, with everything but watching switched off."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.peering.standalone = True
    chosen.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    chosen.watching.client_timeout = CLIENT_TIMEOUT_SECONDS
    chosen.watching.connect_timeout = CONNECT_SECONDS
    chosen.watching.inactivity_timeout = INACTIVITY_SECONDS
    chosen.watching.chunk_size = 500
    chosen.networking.request_timeout = LIST_SECONDS
    chosen.queueing.exit_timeout = 0.5
    chosen.persistence.diffbase_storage = NoEssence()
    for kind in kinds.WATCHED:
        selector = (kind.group, kind.version, kind.plural)
        if kind.label_selector:
            chosen.watching.label_selectors[selector] = kind.label_selector
        if kind.field_selector:
            chosen.watching.field_selectors[selector] = kind.field_selector
    return chosen
