from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kubernetes.aio import client

from celeriac_operator.cluster import lease
from celeriac_operator.cluster.lease import Election, Record
from celeriac_operator.cluster.transport import Transport
from celeriac_operator.exceptions import ApiError

TERM = lease.LEASE_SECONDS - lease.MARGIN_SECONDS


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Stands in for the API server's one Lease: versions, conflicts, and answers that come late or never."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.spec: dict[str, Any] | None = None
        self.version = 0
        self.answer_seconds = 0.0
        self.down = False
        self.refused = 0

    async def request(self, verb: str, _path: str, *, body: dict[str, Any] | None = None, **_: Any) -> dict[str, Any]:
        self.clock.now += self.answer_seconds
        if self.down:
            raise ApiError(0, "NoAnswer", "down")
        if verb == "POST":
            if self.spec is not None:
                raise ApiError(409, "AlreadyExists", "there")
            self._store(body or {})
        elif self.spec is None:
            raise ApiError(404, "NotFound", "none")
        elif verb == "PATCH":
            assert body is not None
            if body["metadata"]["resourceVersion"] != str(self.version):
                self.refused += 1
                raise ApiError(409, "Conflict", "changed")
            self._store({"spec": {**self.spec, **body["spec"]}})
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": self.spec}

    def _store(self, body: dict[str, Any]) -> None:
        self.version += 1
        self.spec = body["spec"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Server:
    return Server(clock)


def a_candidate(server: Server, identity: str) -> Election:
    transport: Any = server
    return Election(transport, namespace="celeriac", name="lock", identity=identity, clock=server.clock)


@pytest.mark.parametrize(
    ("holder", "unchanged", "free"),
    [
        pytest.param("", 0, True, id="a Lease that was given back"),
        pytest.param("me", 0, True, id="a Lease of this pod's former container"),
        pytest.param("other", 9.9, False, id="a Lease that may still be renewed"),
        pytest.param("other", 10, True, id="a Lease that nobody renewed"),
    ],
)
def test_which_lease_is_free(holder: str, unchanged: float, free: bool) -> None:
    record = Record(holder=holder, seconds=10, transitions=0, version="1")
    assert lease.is_free(record, "me", unchanged) is free


async def test_the_first_one_makes_the_lease_and_the_second_waits_for_its_end(server: Server, clock: Clock) -> None:
    first, second = a_candidate(server, "first"), a_candidate(server, "second")
    assert await first.attempt()
    assert not await second.attempt()
    clock.now += lease.LEASE_SECONDS - 0.1
    assert not await second.attempt()
    assert first.seconds_left() <= 0, "the leader stops before anybody else begins"
    clock.now += 0.1
    assert await second.attempt()
    assert server.spec is not None
    assert (server.spec["holderIdentity"], server.spec["leaseTransitions"]) == ("second", 1)


async def test_each_renewal_seen_makes_a_follower_wait_anew(server: Server, clock: Clock) -> None:
    first, second = a_candidate(server, "first"), a_candidate(server, "second")
    await first.attempt()
    for _ in range(5):
        assert not await second.attempt()
        clock.now += TERM - 1
        await first.renew()
    assert not await second.attempt()


async def test_a_term_begins_when_the_renewal_is_sent_not_when_it_is_answered(server: Server) -> None:
    first = a_candidate(server, "first")
    server.answer_seconds = 3.0
    await first.attempt()
    # Two requests: to look, which is before the term, and to make the Lease.
    assert first.seconds_left() == TERM - 3.0


async def test_a_renewal_after_somebody_else_has_taken_over_is_refused(server: Server, clock: Clock) -> None:
    first, second = a_candidate(server, "first"), a_candidate(server, "second")
    await first.attempt()
    await second.attempt()
    clock.now += lease.LEASE_SECONDS
    await second.attempt()
    with pytest.raises(ApiError) as refused:
        await first.renew()
    assert refused.value.status == 409
    assert first.seconds_left() <= 0


async def test_an_exit_stops_the_work_first_and_then_empties_the_lease(server: Server) -> None:
    first, second = a_candidate(server, "first"), a_candidate(server, "second")
    began, holder_at_end = asyncio.Event(), []

    async def lead() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert server.spec is not None
            holder_at_end.append(server.spec["holderIdentity"])
            assert first.seconds_left() <= 0

    running = asyncio.create_task(first.run(lead))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert holder_at_end == ["first"]
    assert await second.attempt()


async def test_what_is_lost_is_not_written_to(server: Server, clock: Clock) -> None:
    first, second = a_candidate(server, "first"), a_candidate(server, "second")
    began, over = asyncio.Event(), asyncio.Event()

    async def lead() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    running = asyncio.create_task(first.run(lead))
    await began.wait()
    await second.attempt()
    clock.now += lease.LEASE_SECONDS
    await second.attempt()
    version = server.version
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert over.is_set()
    assert server.version == version
    assert server.refused == 0, "not even tried"


async def test_a_failure_of_the_work_is_not_swallowed_and_the_lease_is_given_back(server: Server) -> None:
    async def lead() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await a_candidate(server, "first").run(lead)
    assert await a_candidate(server, "second").attempt()


async def test_a_server_that_is_down_raises_and_gives_no_term(server: Server) -> None:
    first = a_candidate(server, "first")
    server.down = True
    with pytest.raises(ApiError):
        await first.attempt()
    assert first.seconds_left() <= 0


@pytest.mark.parametrize("verb", ["PATCH", "POST", "DELETE"])
async def test_no_write_leaves_the_process_without_a_term(verb: str) -> None:
    sent: list[str] = []

    async def send(verb: str, *_: object, **__: object) -> None:
        sent.append(verb)
        raise OSError("sent")

    api = client.ApiClient(client.Configuration())
    api.rest_client.request = send  # type: ignore[method-assign]
    transport = Transport(api, lambda **_: None, seconds_left=lambda: 0.0)
    with pytest.raises(ApiError, match="is not the leader"):
        await transport.request(verb, "/x", plural="x")
    with pytest.raises(ApiError, match="sent"):
        await transport.request("GET", "/x", plural="x")
    assert sent == ["GET"]
