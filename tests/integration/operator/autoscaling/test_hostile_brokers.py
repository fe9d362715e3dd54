"""Whatever a broker's server answers, the operator reads little of it, ends in time, quotes nothing and goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
from tests.integration.operator.autoscaling import hostile
from tests.integration.operator.autoscaling.hostile import FINE, HTTP, REDIS, SECRET, Answer, Server, serving
from tests.waiting import eventually_async

from celeriac_operator.autoscaling import policy, polling
from celeriac_operator.autoscaling.brokers import rabbitmq, resolving
from celeriac_operator.autoscaling.brokers import redis as redis_broker
from celeriac_operator.autoscaling.brokers.readings import Broker, BrokerError, Reading, Watched
from celeriac_operator.autoscaling.brokers.resolving import ForbiddenAddressError, Resolver
from celeriac_operator.autoscaling.connect import Access, UnusableURL
from celeriac_operator.autoscaling.connect import connect as connect_broker
from celeriac_operator.autoscaling.connections import BrokerAddress, Pollers
from celeriac_operator.printable import printable

WATCHED = Watched("evil/p", ("q",))

MOST_BYTES = 16 * 2**20
"""What a server can get rid of: the bound of a reply, and what the kernel's buffers hold."""

Outcome = dict[str, Reading] | BrokerError


@pytest.fixture(autouse=True)
def in_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_broker, "READ_SECONDS", 3.0)
    monkeypatch.setattr(rabbitmq, "READ_SECONDS", 3.0)


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    ours = [record for record in caplog.records if record.name.startswith("celeriac_operator")]
    assert not [record for record in ours if record.exc_info or SECRET in record.getMessage()]


async def read(broker: Broker, server: Server) -> Outcome:
    """The outcome of the second reading, or of the first for which the server was asked."""
    await read_once(broker, 0.0)
    outcome = await read_once(broker, 1.0)
    while not server.asked and server.answer:  # a busy machine has not come to connect in time
        outcome = await read_once(broker, 2.0)
    return outcome


async def read_once(broker: Broker, now: float) -> Outcome:
    try:
        return await broker.read([WATCHED], now=now)
    except BrokerError as error:
        return error


async def outcome_of(answer: Answer, *, is_http: bool, answers_at_once: bool = False) -> tuple[Outcome, Server]:
    async with serving(answer, is_http=is_http, answers_at_once=answers_at_once) as server:
        if is_http:
            broker = connect_broker("amqp://u:password@127.0.0.1/", management=f"http://127.0.0.1:{server.port}")
        else:
            broker = connect_broker(f"redis://u:password@127.0.0.1:{server.port}/0")
        try:
            async with asyncio.timeout(170):
                return await read(broker, server), server
        finally:
            await broker.close()


def check_error(outcome: Outcome, server: Server) -> None:
    assert isinstance(outcome, BrokerError) or outcome == {}, outcome
    text = str(outcome)
    assert SECRET not in text
    assert "password" not in text.replace("the password", "")
    assert text == printable(text, limit=400)
    assert server.asked >= 1 or server.answer == b"", "the connection ends before the question"
    # Interim responses (1xx) are bounded by the time of the whole response alone.
    most = 8 * MOST_BYTES if server.answer is HTTP["promises without end"] else MOST_BYTES
    assert server.sent <= most * max(server.asked, 1)


async def failures(answers: Mapping[str, Answer], *, is_http: bool, answers_at_once: bool = False) -> dict[str, object]:
    """What is wrong with the outcome of each of these answers, all of which are given at the same time."""

    async def one(name: str) -> object:
        try:
            check_error(*await outcome_of(answers[name], is_http=is_http, answers_at_once=answers_at_once))
        except Exception as error:
            return error
        return None

    at_once = asyncio.Semaphore(8)

    async def in_turn(name: str) -> object:
        async with at_once:
            return await one(name)

    wrong = await asyncio.gather(*map(in_turn, answers))
    return {name: error for name, error in zip(answers, wrong, strict=True) if error is not None}


async def test_a_redis_that_answers_as_none_does() -> None:
    assert await failures(REDIS, is_http=False) == {}


async def test_a_redis_that_does_so_in_the_handshake() -> None:
    # Of some answers the client's library thinks that they are fine, and then nothing follows.
    answers = {name: answer for name, answer in REDIS.items() if name != "ever new records"}
    assert await failures(answers, is_http=False, answers_at_once=True) == {}


async def test_a_management_api_that_answers_as_none_does() -> None:
    assert await failures(HTTP, is_http=True) == {}


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize(
    "target",
    [policy.Latency(seconds=5), policy.BacklogPerReplica(messages=20), policy.BusySlots(percent=80)],
    ids=lambda target: type(target).__name__,
)
async def test_a_number_that_cannot_be_right_is_left_out_and_a_decision_is_made(
    name: str, target: policy.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_broker, "READ_SECONDS", 60.0)
    outcome, _ = await outcome_of(FINE[name], is_http=False)
    assert isinstance(outcome, dict)
    figures = outcome["evil/p"].figures
    spec = policy.Spec(min_replicas=0, max_replicas=5, target=target)
    decision = policy.decide(spec, figures, policy.History(), current=1, now=figures.read_at)
    assert 0 <= decision.replicas <= 5


async def test_credentials_go_to_one_path_and_nowhere_else() -> None:
    async with serving(http_found := HTTP["a redirect"], is_http=True) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/".encode()
        redirect = hostile.http(b"", headers=b"Location: " + location + b"\r\n", status=b"307 Temporary Redirect")
        outcome, server = await outcome_of(redirect, is_http=True)
        assert isinstance(outcome, BrokerError)
        assert elsewhere.asked == 0, http_found
    assert {line.split(b" ")[1].partition(b"?")[0] for line in server.received} == {b"/api/queues/%2F"}


# --- one broker costs the others nothing


class Honest:
    """A broker that answers at once."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, pools: object, *, now: float, only: object = None) -> dict[str, Reading]:
        del pools, now, only
        self.reads += 1
        return {}

    async def count(self) -> int:
        return self.reads

    async def arrival(self) -> frozenset[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None: ...


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    """One of each kind, all at once."""
    opened = [serving(answer, is_http=False) for answer in REDIS.values()]
    opened += [serving(answer, is_http=True) for answer in HTTP.values()]
    try:
        yield [await one.__aenter__() for one in opened]
    finally:
        for one in opened:
            await one.__aexit__(None, None, None)


async def test_an_honest_broker_is_read_beside_all_of_them_and_they_end_at_once(servers: list[Server]) -> None:
    honest = Honest()
    address = BrokerAddress("redis://honest", "")

    def connect(wanted: BrokerAddress) -> Broker:
        return honest if wanted == address else connect_broker(wanted.url, management=wanted.management or None)

    pollers = Pollers(lambda *_: None, connect=connect, clock=time.monotonic)
    wanted = {address: {"good/p": Watched("good/p", ("q",))}}
    for server in servers:
        management = f"http://127.0.0.1:{server.port}" if server.is_http else ""
        url = "amqp://127.0.0.1" if server.is_http else f"redis://127.0.0.1:{server.port}/0"
        wanted[BrokerAddress(url, management)] = {"evil/p": WATCHED}
    used = time.thread_time()
    await pollers.follow(wanted)
    # Rounds of the honest broker, not seconds: a loaded machine has fewer of both.
    await eventually_async(honest.count, lambda reads: reads >= 5, timeout=120)
    used = time.thread_time() - used
    asked = [server.asked for server in servers]
    assert max(asked) <= 2 * honest.reads + 5, "who does not behave is not asked more often than others"
    began = time.monotonic()
    await pollers.close()
    assert time.monotonic() - began < 20, "the end waits for nobody"
    print(f"{len(servers)} hostile brokers: {used:.1f} s of processor time in 5 rounds of an honest one")


async def test_a_url_that_cannot_be_used_is_one_pools_trouble(caplog: pytest.LogCaptureFixture) -> None:
    pollers = Pollers(lambda *_: None, connect=None, clock=time.monotonic)
    urls = [
        "amqps://x/?ssl_ca_data=garbage",
        "rediss://x/?ssl_ca_certs=/dev/ptmx",
        "redis://x:99999999",
        "redis://[",
        "\x00",
    ]
    await pollers.follow({BrokerAddress(url, ""): {f"evil/{number}": WATCHED} for number, url in enumerate(urls)})
    assert [name for name, _ in pollers.unusable()] == [f"evil/{number}" for number in range(len(urls))]
    await pollers.close()


# --- names


async def test_a_name_that_nobody_answers_for_delays_no_other() -> None:
    answered = threading.Event()
    now = [0.0]

    def look_up(host: str) -> list[str]:
        if host.startswith("slow"):
            answered.wait(120)  # as the resolver of the C library waits
            raise OSError("Temporary failure in name resolution")
        return ["127.0.0.1"]

    def ask_for_slow_names() -> list[asyncio.Task[tuple[str, ...]]]:
        return [asyncio.create_task(resolver.resolve(f"slow-{number}")) for number in range(resolving.THREADS - 1)]

    resolver = Resolver(look_up, clock=lambda: now[0])
    slow = ask_for_slow_names()
    await asyncio.sleep(0)
    assert await resolver.resolve("redis") == ("127.0.0.1",)
    assert not any(task.done() for task in slow)
    now[0] = 20.0
    answered.set()
    assert all(isinstance(error, OSError) for error in await asyncio.gather(*slow, return_exceptions=True))
    answered.clear()
    again = ask_for_slow_names()
    await asyncio.sleep(0)
    assert await resolver.resolve("rabbit") == ("127.0.0.1",)
    assert sum(not task.done() for task in again) == resolving.SLOW_THREADS, "those that were slow have a small share"
    answered.set()
    await asyncio.gather(*again, return_exceptions=True)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "224.0.0.1"]
)
async def test_no_name_leads_to_a_metadata_service(address: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await Resolver(lambda _: [address]).resolve("innocent")
    with pytest.raises(ForbiddenAddressError):
        await Resolver().resolve(address)
    shown = f"[{address}]" if ":" in address else address
    for url, management in ((f"redis://{shown}/0", None), ("amqp://h", f"http://{shown}:80")):
        broker = connect_broker(url, management=management)
        with pytest.raises(BrokerError, match="is not an address that a broker can have"):
            await broker.read([WATCHED], now=0)
        await broker.close()


async def test_only_allowed_hosts_are_connected_to() -> None:
    access = Access(hosts=("redis.shop.svc", "*.example.com", "10.0.0.0/8"))
    for url in ("redis://redis.shop.svc", "redis://a.b.example.com", "redis://10.1.2.3", "amqp://REDIS.shop.svc."):
        await connect_broker(url, access=access).close()
    for url in (
        "redis://other.shop.svc",
        "redis://example.com",
        "redis://evilexample.com",
        "redis://11.1.2.3",
        "redis:///0",
        "redis://redis.shop.svc;redis://other",
        "sentinel://a.example.com;sentinel://b",
        "amqp://evil",
    ):
        with pytest.raises(UnusableURL, match="allowedHosts"):
            connect_broker(url, access=access)
    with pytest.raises(UnusableURL, match="allowedHosts"):
        connect_broker("amqp://redis.shop.svc", management="http://evil:15672", access=access)


@pytest.mark.parametrize(
    "management",
    [
        "http://h:80/latest/meta-data/?x=",
        "http://h/path",
        "http://h#x",
        "http://h?x",
        "http://u:p@h",
        "ftp://h",
        "http://h:99999",
        "http://h\r\nX: 1",
        "http://a b",
        "//h",
        "http://",
    ],
)
def test_a_management_url_is_a_host_and_a_port(management: str) -> None:
    with pytest.raises(UnusableURL):
        connect_broker("amqp://h", management=management)


def test_a_pause_grows_while_a_server_does_not_behave() -> None:
    shortest, longest = polling.MISBEHAVED_SECONDS
    assert polling.ROUND_SECONDS < shortest < longest
