"""The figures of queues in a real Redis, and how soon the first message of an idle queue is noticed."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.integration.worker.processes import RedisServer
from tests.integration.worker.servers import MASTER, Sentinel, make_authority, start_replica, start_tls_server
from tests.waiting import eventually, eventually_async

from celeriac_operator.autoscaling.brokers import redis as redis_broker
from celeriac_operator.autoscaling.connect import (
    Access,
    AuthenticationFailed,
    Broker,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.connect import connect as connect_broker

MAIL = Watched("shop/mail", ("mail",))
SMS = Watched("shop/sms", ("sms", "fax"))


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with server.client as it:
        yield it


Connect = Callable[[str], Broker]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    made: list[Broker] = []

    def make(url: str) -> Broker:
        # The chart of this operator allows the files that the URL names.
        files = frozenset(re.findall("=(/[^&]+)", url))
        made.append(connect_broker(url, access=Access(files=files)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def read_one(reader: Broker, watched: Watched = MAIL) -> Reading:
    return (await reader.read([watched], now=7.0))[watched.pool]


def message(*, published: float | None = None, eta: str | None = None, body: str = "x") -> str:
    """A message as kombu stores it."""
    headers = {"task": "mail.send", "eta": eta, **({} if published is None else {"celeriac_published": published})}
    return json.dumps({"body": body, "headers": headers, "properties": {"delivery_tag": "1"}})


async def until_read(reader: Broker, is_right: Callable[[Reading], object], *, seconds: float = 20) -> Reading:
    """Read until the figures are right; a broker that is away is asked again."""

    async def read() -> Reading | Unreachable:
        try:
            return await read_one(reader)
        except Unreachable as error:
            return error

    reading = await eventually_async(read, lambda it: isinstance(it, Reading) and is_right(it), timeout=seconds)
    assert isinstance(reading, Reading)
    return reading


async def within(seconds: float, awaited: Awaitable[frozenset[str]]) -> tuple[frozenset[str], float]:
    """What is announced, and after how many seconds."""
    began = time.monotonic()
    return await asyncio.wait_for(awaited, seconds), time.monotonic() - began


# --- what is counted


async def test_all_priorities_of_all_queues_are_counted(server: RedisServer, client: Any, connect: Connect) -> None:
    client.lpush("mail", *map(str, range(4)))
    client.lpush("mail\x06\x163", "a", "b")
    client.lpush("mail\x06\x169", "c")
    client.lpush("fax\x06\x166", "d")
    client.hset("celeriac:held:{sms}", mapping={"w:1": "4:smsx", "w:2": "4:smsy"})
    readings = await connect(server.url).read([MAIL, SMS], now=7.0)
    assert readings["shop/mail"].backlog == {"mail": 7}
    assert readings["shop/sms"].backlog == {"sms": 0, "fax": 1}
    assert readings["shop/mail"].figures.backlog == 7
    assert (readings["shop/sms"].figures.in_flight, readings["shop/sms"].figures.read_at) == (2, 7.0)


async def test_each_database_has_queues_of_its_own(server: RedisServer, client: Any, connect: Connect) -> None:
    client.lpush("mail", "a")
    assert (await read_one(connect(server.url.replace("/0", "/5")))).figures.backlog == 0
    assert (await read_one(connect(server.url))).figures.backlog == 1


async def test_lists_are_found_where_the_workers_say_that_they_are(
    server: RedisServer, client: Any, connect: Connect
) -> None:
    reader = connect(server.url)
    client.lpush("mail", "plain")
    client.lpush("shop-mail", "a")
    client.lpush("shop-mail:5", "b")
    client.hset("shop-celeriac:held:{mail}", "w:1", "x")
    assert (await read_one(reader)).figures.backlog == 1, "without a record kombu's defaults are taken"
    record = {"prefix": "shop-", "prioritySteps": [0, 5], "separator": ":"}
    client.set("celeriac:layout:{shop/mail}", json.dumps(record))
    figures = (await read_one(reader)).figures
    assert (figures.backlog, figures.in_flight) == (2, 1)
    client.delete("celeriac:layout:{shop/mail}")
    assert (await read_one(reader)).figures.backlog == 2, "a record that is gone is not forgotten"
    client.set("celeriac:layout:{shop/mail}", "nonsense")
    assert (await read_one(reader)).figures.backlog == 2, "nor does nonsense replace it"


async def test_the_oldest_message_tells_its_age(server: RedisServer, client: Any, connect: Connect) -> None:
    reader, now = connect(server.url), time.time()
    client.lpush("mail", message(published=now - 30), message(published=now - 5))
    client.lpush("mail\x06\x163", message(published=now - 90, eta="2000-01-01T00:00:00+00:00"))
    age = (await read_one(reader)).figures.oldest_age_seconds
    assert age == pytest.approx(90, abs=5), "the right end of each list is the oldest"
    client.delete("mail\x06\x163")
    assert (await read_one(reader)).figures.oldest_age_seconds == pytest.approx(30, abs=5)
    client.delete("mail")
    client.lpush("mail", message(published=now - 30, eta="2999-01-01T00:00:00+00:00"))
    assert (await read_one(reader)).figures.oldest_age_seconds == 0, "its time has not come"
    client.delete("mail")
    forged = 'text "celeriac_published": 1.0 and more'
    client.lpush("mail", message(body=forged), message(published=now))
    assert (await read_one(reader)).figures.oldest_age_seconds is None, "a plain producer's says nothing"


async def test_only_living_workers_count(server: RedisServer, client: Any, connect: Connect) -> None:
    def entry(due: float, **said: float) -> str:
        return f"{due * 1000:.0f}:1:{json.dumps(said)}"

    client.hset("celeriac:held:{mail}", mapping={f"w:{n}": "x" for n in range(7)})
    living = entry(time.time() + 60, slots=4, busy=1, scheduled=5, recentTasks=3, serviceSeconds=2.0)
    client.hset("celeriac:workers:{shop/mail}", "living", living)
    client.hset("celeriac:workers:{shop/mail}", "dead", entry(time.time() - 1, slots=4, busy=4))
    client.hset("celeriac:workers:{shop/mail}", "nonsense", "x")
    figures = (await read_one(connect(server.url))).figures
    assert figures.in_flight == 2, "what waits for its time needs no slot yet"
    assert figures.busy_slots == 2, "what is held and due keeps slots busy, whatever was said a while ago"
    assert figures.service_seconds == 2.0
    client.hset("celeriac:workers:{shop/mail}", "living", entry(time.time() + 60, slots=4, busy=1, scheduled=7))
    assert (await read_one(connect(server.url))).figures.in_flight == 1, "but its worker is needed"


# --- waking up


async def test_the_first_message_of_a_quiet_queue_is_heard_at_once(
    server: RedisServer, client: Any, connect: Connect
) -> None:
    reader = connect(server.url)
    client.lpush("sms", "busy")
    pools = [MAIL, SMS, *(Watched(f"shop/{n}", (f"q{n}",)) for n in range(50))]
    await reader.read(pools, now=7.0)
    waits = asyncio.ensure_future(reader.arrival())
    client.lpush("sms", "more")  # not its first
    client.lpush("mail\x06\x166", "a")
    pools_woken, seconds = await within(5, waits)
    assert (pools_woken, seconds < 0.1) == ({"shop/mail"}, True), seconds
    waits = asyncio.ensure_future(reader.arrival())
    client.lpush("mail", "b")
    client.lpush("fax", "c")
    assert (await within(5, waits))[0] == {"shop/sms"}, "of two queues the quiet one; mail was not read again"
    await reader.read(pools, now=8.0)
    client.delete("mail\x06\x166", "mail")
    await reader.read(pools, now=9.0)
    waits = asyncio.ensure_future(reader.arrival())
    client.lpush("mail", "d")
    assert (await within(5, waits))[0] == {"shop/mail"}, "quiet again, heard again"
    assert set(await reader.read(pools, now=10.0, only={"shop/mail"})) == {"shop/mail"}
    waits = asyncio.ensure_future(reader.arrival())
    client.lpush("q7", "e")
    assert (await within(5, waits))[0] == {"shop/7"}, "who was not read meanwhile is still listened for"


async def test_without_tracking_figures_are_read_and_it_is_said_once(
    server: RedisServer, client: Any, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client.acl_setuser("shop", enabled=True, passwords=["+word"], keys=["*"], commands=["+@all", "-client|tracking"])
    reader = connect(f"redis://shop:word@127.0.0.1:{server.port}/0")
    assert (await read_one(reader)).figures.backlog == 0
    waits = asyncio.ensure_future(reader.arrival())
    client.lpush("mail", "a")
    assert (await read_one(reader)).figures.backlog == 1
    client.client_kill_filter(_type="normal", skipme=True)
    await until_read(reader, lambda it: it.figures.backlog == 1)
    assert not waits.done()
    waits.cancel()
    assert caplog.text.count("refuses CLIENT TRACKING") == 1


# --- what goes wrong


async def test_a_wrong_password_is_told_from_a_broker_that_is_away(
    server: RedisServer, client: Any, connect: Connect
) -> None:
    client.config_set("requirepass", "secret-word")
    for url in (f"redis://:wrong-word@127.0.0.1:{server.port}/0", server.url):
        with pytest.raises(AuthenticationFailed, match="refuses the user or the password") as failure:
            await read_one(connect(url))
        assert "word@" not in str(failure.value)
    assert (await read_one(connect(f"redis://:secret-word@127.0.0.1:{server.port}/0"))).figures.backlog == 0


async def test_a_pool_that_may_not_be_read_is_left_out_alone(
    server: RedisServer, client: Any, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ["~mail*", "~fax*", "~celeriac:*"]
    client.acl_setuser("shop", enabled=True, nopass=True, commands=["+@all"], keys=[it[1:] for it in rights])
    client.set("no-list", "x")
    reader = connect(f"redis://shop:any@127.0.0.1:{server.port}/0")
    for now in (7.0, 8.0):
        readings = await reader.read([SMS, MAIL], now=now)
        assert readings.keys() == {"shop/mail"}
    assert caplog.text.count("refuses to show the queues of shop/sms") == 1
    readings = await connect(server.url).read([Watched("shop/odd", ("no-list",)), MAIL], now=9.0)
    assert readings.keys() == {"shop/mail"}, "something else has a queue's name"


async def test_a_redis_that_was_killed_is_read_again_when_it_is_back(
    server: RedisServer, client: Any, connect: Connect
) -> None:
    reader = connect(server.url)
    await read_one(reader)
    waits = asyncio.ensure_future(reader.arrival())
    server.kill()
    with pytest.raises(Unreachable, match=f"Redis at 127.0.0.1:{server.port} cannot be read"):
        await read_one(reader)
    server.start()
    await until_read(reader, lambda it: it.figures.backlog == 0)
    assert not waits.done(), "a broker that is away does not count as an arrival"
    client.lpush("mail", "a")
    assert (await within(5, waits))[0] == {"shop/mail"}, "the same wait goes on over the new connection"
    client.script_flush()
    assert (await until_read(reader, lambda it: it.figures.backlog == 1)).backlog == {"mail": 1}


async def test_a_redis_that_hangs_is_given_up_in_time(
    server: RedisServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = connect(server.url)
    await read_one(reader)
    monkeypatch.setattr(redis_broker, "READ_SECONDS", 0.3)
    server.pause()
    with pytest.raises(Unreachable, match=r"has not responded within 0\.3 s"):
        await read_one(reader)
    server.resume()
    await until_read(reader, lambda it: it.figures.backlog == 0)


async def test_an_alternative_is_read_when_the_first_is_away(
    server: RedisServer, client: Any, connect: Connect
) -> None:
    client.lpush("mail", "a")
    reader = connect(f"redis://127.0.0.1:1/0;{server.url}")
    with pytest.raises(Unreachable):
        await read_one(reader)
    assert (await read_one(reader)).figures.backlog == 1


# --- TLS and Sentinel


async def test_reads_over_tls_what_the_url_asks_for(tmp_path: Path, connect: Connect) -> None:
    server, url = start_tls_server(tmp_path / "tls", make_authority(tmp_path / "authority"))
    try:
        server.client.lpush("mail", "a")
        reader = connect(url)
        assert (await read_one(reader)).figures.backlog == 1
        unchecked = url.partition("?")[0]
        assert (await read_one(connect(unchecked))).figures.backlog == 1, "kombu checks nothing without options"
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await read_one(connect(f"{unchecked}?ssl_cert_reqs=required"))
        with pytest.raises(UnusableURL, match=r"names a file \(ssl_ca_certs\), and the operator opens only those in"):
            connect_broker(url)
    finally:
        server.kill()


@pytest.mark.timeout(120)
async def test_behind_sentinel_the_master_is_followed(
    server: RedisServer, client: Any, tmp_path: Path, connect: Connect
) -> None:
    replica = start_replica(tmp_path / "replica", server)
    sentinel = Sentinel(tmp_path, server)
    try:
        client.lpush("mail", "a")
        url = f"sentinel://127.0.0.1:1;sentinel://127.0.0.1:{sentinel.port}/0"
        reader = connect(url)
        assert (await read_one(reader)).figures.backlog == 1, "the one that it watches needs no name"
        named = f"sentinel://127.0.0.1:{sentinel.port}/0?master_name="
        assert (await read_one(connect(named + MASTER))).figures.backlog == 1
        with pytest.raises(Unreachable, match=f"watches {MASTER}, and not other"):
            await read_one(connect(named + "other"))
        eventually(lambda: replica.client.llen("mail"), lambda it: it == 1)
        server.kill()
        eventually(lambda: role(replica), lambda it: it == "master", timeout=60)
        replica.client.lpush("mail", "b")
        await until_read(reader, lambda it: it.figures.backlog == 2, seconds=30)
    finally:
        sentinel.stop()
        replica.kill()


def role(replica: RedisServer) -> str:
    """What a server takes itself for; empty in the moment in which Sentinel has its clients dropped (CLIENT KILL)."""
    try:
        return str(replica.client.info("replication")["role"])
    except redis.ConnectionError:
        return ""


# --- how much it costs


async def test_a_thousand_pools_are_one_round_trip(server: RedisServer, client: Any, connect: Connect) -> None:
    reader = connect(server.url)
    pools = [Watched(f"shop/pool-{n}", (f"queue-{n}",)) for n in range(1000)]
    await reader.read(pools, now=0.0)
    client.config_resetstat()
    times = []
    for now in range(10):
        began = time.perf_counter()
        assert len(await reader.read(pools, now=float(now))) == 1000
        times.append((time.perf_counter() - began) * 1000)
    middle = sorted(times)[5]
    print(f"1,000 pools with one queue each: {middle:.0f} ms")
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 10_000, "one call for each pool and reading"
    assert middle < 500, "a reading a second leaves time for the decisions"
