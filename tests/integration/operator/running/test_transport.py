"""Whether a write is still allowed is looked at when its bytes leave, not when it is put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web
from kubernetes.aio import client

from celeriac_operator.cluster import transport
from celeriac_operator.exceptions import ApiError


@pytest.fixture
async def seen() -> AsyncIterator[tuple[str, list[str]]]:
    """A server's URL, and the methods of the requests that reached it."""
    methods: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        methods.append(request.method)
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site.name, methods
    await runner.cleanup()


def allowed_until_now() -> Iterator[float]:
    """The Lease is held when the request is put together, and lost when it is about to leave."""
    yield 5.0
    while True:
        yield 0.0


@pytest.mark.parametrize("verb", ["POST", "PATCH", "PUT", "DELETE"])
async def test_a_write_that_was_allowed_when_it_began_is_not_sent_when_the_lease_is_lost(
    seen: tuple[str, list[str]], verb: str
) -> None:
    url, methods = seen
    configuration = client.Configuration(host=url)
    transport.prepare(configuration)
    answers = allowed_until_now()
    writer = transport.Transport(client.ApiClient(configuration), lambda **_: None, seconds_left=lambda: next(answers))
    try:
        with pytest.raises(ApiError, match="is not the leader any more"):
            await writer.request(verb, "/apis", plural="pods", body={"kind": "Pod"})
        assert methods == []
        await writer.request("GET", "/apis", plural="pods")
        assert methods == ["GET"]
    finally:
        await writer.close()
