"""What the watches pass on, and how they are set up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import kopf
import pytest
from yarl import URL

from celeriac_operator.cluster import kinds, watches


class Heard:
    """What was passed on, from a registry with the operator's handlers."""

    def __init__(self, wrong: str = "") -> None:
        self.calls: list[tuple[str, str]] = []
        self.registry = kopf.OperatorRegistry()
        watches.register(
            self.registry,
            changed=lambda kind, _: self.calls.append(("changed", kind.kind)),
            gone=lambda kind, _: self.calls.append(("gone", kind.kind)),
            began=lambda: self.calls.append(("began", "")),
            check_health=lambda: wrong,
        )

    async def event(self, plural: str, kind: str) -> None:
        for handler in self.registry._watching.get_all_handlers():
            if handler.id == plural:
                call: Any = handler.fn
                await call(event={"type": kind, "object": {"metadata": {}}})

    def probe(self) -> str:
        (call,) = (handler.fn for handler in self.registry._activities.get_all_handlers() if handler.id == "health")
        return str(call())


@pytest.mark.parametrize(
    ("event", "call"), [("DELETED", "gone"), ("ADDED", "changed"), ("MODIFIED", "changed"), (None, "changed")]
)
async def test_a_deleted_deployment_is_not_taken_for_a_changed_one(event: Any, call: str) -> None:
    heard = Heard()
    await heard.event("deployments", event)
    assert heard.calls == [(call, "Deployment")]


def test_an_operator_that_is_stuck_is_restarted() -> None:
    with pytest.raises(kopf.PermanentError, match="a pool has waited"):
        Heard(wrong="a pool has waited 700 s").probe()


def test_an_operator_that_works_is_not_restarted() -> None:
    assert Heard().probe() == "ok"


@pytest.mark.parametrize(
    ("method", "url", "begins"),
    [
        ("GET", "http://api/api/v1/pods?limit=500", True),
        ("GET", "http://api/api/v1/pods?watch=true", False),
        ("GET", "http://api/api/v1/namespaces/shop/pods/one", False),
        ("POST", "http://api/api/v1/pods", False),
    ],
)
async def test_a_watch_that_lists_nothing_is_noticed_too(method: str, url: str, begins: bool) -> None:
    calls: list[int] = []
    session = watches._session(kopf.ConnectionInfo(server="http://api"), lambda: calls.append(1))
    try:
        (tracing,) = session.aiohttp_session.trace_configs
        await tracing.on_request_end[0](None, None, SimpleNamespace(method=method, url=URL(url)))  # type: ignore[arg-type]
    finally:
        await session.aiohttp_session.close()
    assert bool(calls) is begins


def test_of_a_large_cluster_only_the_operators_objects_are_watched() -> None:
    chosen = watches.settings()
    for kind in kinds.WATCHED:
        selector = (kind.group, kind.version, kind.plural)
        assert chosen.watching.label_selectors.get(selector, "") == kind.label_selector
        assert chosen.watching.field_selectors.get(selector, "") == kind.field_selector
    assert kinds.POD.label_selector


def test_a_watch_whose_connection_is_dead_is_noticed() -> None:
    chosen = watches.settings()
    assert chosen.watching.inactivity_timeout == 90, "the API server sends a bookmark each minute"
    assert chosen.networking.request_timeout == 30


def test_watching_writes_nothing_into_the_cluster() -> None:
    chosen = watches.settings()
    assert not chosen.posting.enabled
    assert chosen.peering.standalone
