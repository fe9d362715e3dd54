"""What a request may do, and what its answer means: with a client of a few lines, which sends nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from celeriac_operator.cluster import transport
from celeriac_operator.cluster.transport import Transport
from celeriac_operator.exceptions import ApiError


class Client:
    """The Kubernetes client: answers with a status and a text, or raises."""

    def __init__(self, status: int = 200, text: bytes = b"{}", error: Exception | None = None) -> None:
        self.configuration = SimpleNamespace(host="https://api", auth_settings=self.auth_settings)
        self.default_headers: dict[str, str] = {}
        self.rest_client = self
        self.status, self.text, self.error = status, text, error
        self.token = "one"
        self.sent: list[tuple[str, float, str]] = []

    async def auth_settings(self) -> dict[str, Any]:
        return {"BearerToken": {"value": f"Bearer {self.token}"}}

    async def request(self, verb: str, _url: str, headers: Any, _body: Any, *, _request_timeout: float) -> Any:
        self.sent.append((verb, _request_timeout, headers["Authorization"]))
        if self.error:
            raise self.error
        return self

    async def read(self) -> bytes:
        return self.text


def a_transport(client: Client, left: float | None = None) -> Transport:
    seconds_left = None if left is None else lambda: left
    return Transport(client, lambda **_: None, seconds_left=seconds_left)  # type: ignore[arg-type]  # what it uses


async def test_a_replica_that_does_not_lead_writes_nothing() -> None:
    client = Client()
    with pytest.raises(ApiError, match="not the leader"):
        await a_transport(client, 0.0).request("PATCH", "/x", plural="pods", body={})
    assert client.sent == []


async def test_a_write_that_hangs_ends_with_the_term_of_the_leader() -> None:
    client = Client()
    await a_transport(client, 3.0).request("PATCH", "/x", plural="pods", body={})
    assert client.sent[0][1] == 3.0


async def test_a_replica_that_does_not_lead_keeps_its_caches_up_to_date() -> None:
    client = Client()
    await a_transport(client, -5.0).request("GET", "/x", plural="pods")
    assert client.sent[0][:2] == ("GET", transport.REQUEST_SECONDS)


async def test_a_service_account_token_that_changes_is_used() -> None:
    client = Client()
    for token in ("one", "two"):
        client.token = token
        await a_transport(client).request("GET", "/x", plural="pods")
    assert [sent[2] for sent in client.sent] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("status", [301, 403, 404, 409, 422, 500])
async def test_a_refusal_is_not_taken_for_an_object(status: int) -> None:
    client = Client(status, b'{"reason": "No", "message": "because"}')
    with pytest.raises(ApiError, match="because") as said:
        await a_transport(client).request("GET", "/x", plural="pods")
    assert said.value.status == status


async def test_a_page_of_a_proxy_is_an_error_with_a_text() -> None:
    client = Client(502, b"<html>Bad Gateway</html>" * 100)
    with pytest.raises(ApiError, match="Bad Gateway") as said:
        await a_transport(client).request("GET", "/x", plural="pods")
    assert len(said.value.message) <= 500


@pytest.mark.parametrize("error", [aiohttp.ServerDisconnectedError(), asyncio.TimeoutError(), OSError("refused")])
async def test_an_api_server_that_is_away_is_an_error_that_is_retried(error: Exception) -> None:
    with pytest.raises(ApiError, match="did not respond") as said:
        await a_transport(Client(error=error)).request("GET", "/x", plural="pods")
    assert said.value.status == 0


@pytest.mark.parametrize(("left", "is_sent"), [(1.0, True), (0.0, False), (-0.5, False), (-60.0, False)])
async def test_a_process_that_was_stopped_before_it_sent_does_not_write_after_its_successor(
    left: float, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, errors = [], []

    async def write(*_: Any) -> None:
        sent.append(1)

    monkeypatch.setattr(aiohttp.ClientRequest, "write_bytes", write)
    protocol = SimpleNamespace(set_exception=errors.append)
    transport._seconds_left.set(lambda: left)
    request = transport._Request.__new__(transport._Request)
    await request.write_bytes(None, SimpleNamespace(protocol=protocol))  # type: ignore[arg-type]  # what it uses
    assert (len(sent), len(errors)) == ((1, 0) if is_sent else (0, 1))
