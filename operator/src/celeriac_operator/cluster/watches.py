"""kopf's decorators, and nothing else: a watch event goes to the caches, and the pools it concerns go to the queue.

Only `on.event` is used. It writes nothing: no annotation, no finalizer, no state on anybody's object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import aiohttp
import kopf

from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.kinds import Kind

Changed = Callable[[Kind, dict[str, Any]], None]

# Served from the API server's cache and cut by it after this time, so that no watch is older than an hour.
SERVER_TIMEOUT_SECONDS = 1800
CLIENT_TIMEOUT_SECONDS = SERVER_TIMEOUT_SECONDS + 60
# The API server sends a bookmark every minute, so a silence of this length means a dead connection.
INACTIVITY_SECONDS = 90
CONNECT_SECONDS = 10
# For a list, by which every watch begins: while one hangs, changes of its kind go unseen. kopf would wait five minutes.
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

    `changed` is told of a new state, `gone` of a deletion, `began` that a watch has listed its objects, of which there
    may be none. `check_health` returns what is wrong with the operator, or an empty text.
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
    """Call this when a signal ends kopf."""

    @kopf.on.cleanup(registry=registry)
    def cleanup(**_: Any) -> None:
        call()


def _watch(registry: kopf.OperatorRegistry, kind: Kind, *, changed: Changed, gone: Changed) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        (gone if event["type"] == "DELETED" else changed)(kind, dict(event["object"]))


def _session(info: kopf.ConnectionInfo, began: Callable[[], None]) -> kopf.AiohttpSession:
    """As kopf makes it, and it tells of lists: an empty one is no event, and all that was there before is gone."""
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
    )
    return kopf.AiohttpSession(
        server=info.server,
        default_namespace=info.default_namespace,
        expiration=info.expiration,
        aiohttp_session=session,
    )


def is_list(method: str, path: str, *, is_watch: bool) -> bool:
    """Whether the request is the list that a watch begins with."""
    plurals = {kind.plural for kind in kinds.WATCHED}
    return method == "GET" and not is_watch and path.rpartition("/")[2] in plurals


class NoEssence(kopf.DiffBaseStorage):
    """Keeps nothing of an object, and finds no difference.

    For handlers of changes, which there are none of here, kopf copies every object twice at each event.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of an object is essential."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing is remembered."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing is written."""


def settings() -> kopf.OperatorSettings:
    """kopf's settings: it watches, and does nothing else."""
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
