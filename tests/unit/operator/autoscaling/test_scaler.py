"""The loop that scales, with brokers and an API server of a few lines, and a time that only the test moves."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac_operator.autoscaling.connect import (
    AuthenticationFailed,
    Broker,
    BrokerError,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.connections import BrokerAddress
from celeriac_operator.autoscaling.policy import Figures
from celeriac_operator.autoscaling.polling import Poller
from celeriac_operator.autoscaling.scaler import Scaler
from celeriac_operator.cluster.client import Cluster
from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.metrics import Metrics
from celeriac_operator.workqueue import WorkQueue

EMAILS, LETTERS = Key("shop", "emails"), Key("shop", "letters")
URL = "redis://redis.shop/0"


class World:
    """Time, brokers by URL, the API server, and the scaler among them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.brokers: dict[str, StandIn] = {}
        self.secrets: dict[str, str] = {}
        self.written: list[tuple[str, int]] = []
        self.managed: list[str] = []
        self.refusal: ApiError | None = None
        self.version = 10
        self.caches = Caches()
        self.queue: WorkQueue[Key] = WorkQueue(clock=lambda: self.now)
        self.metrics = Metrics()
        self.scaler = Scaler(
            Cluster(self),  # type: ignore[arg-type]  # all that it calls is there
            self.caches,
            self.queue,
            self.metrics,
            lambda: datetime(2026, 5, 4, 12, tzinfo=UTC),
            connect=self.connect,
            clock=lambda: self.now,
        )

    def connect(self, address: BrokerAddress) -> Broker:
        url = address.url
        self.managed.append(address.management)
        if url.startswith("memory"):
            raise UnusableURL("queues of memory:// brokers cannot be read")
        self.brokers[url] = StandIn()
        return self.brokers[url]

    async def request(self, verb: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        name = path.removesuffix("/scale").rpartition("/")[2]
        if verb == "GET":
            return self.secret(name)
        if self.refusal:
            raise self.refusal
        self.written.append((name, body["spec"]["replicas"]))
        self.version += 10
        metadata = {"name": name, "namespace": "shop", "resourceVersion": str(self.version)}
        return {"metadata": metadata, "spec": {"replicas": n} if (n := body["spec"]["replicas"]) else {}}

    def secret(self, name: str) -> dict[str, Any]:
        self.version += 10
        metadata = {"name": name, "namespace": "shop", "uid": "u", "resourceVersion": str(self.version)}
        return {"metadata": metadata, "data": {"url": base64.b64encode(self.secrets[name].encode()).decode()}}

    def pool(self, key: Key = EMAILS, **spec: Any) -> None:
        """The watch tells of a pool."""
        self.version += 10
        self.caches.observe_pool(
            {
                "metadata": {**key._asdict(), "uid": "u", "generation": 1, "resourceVersion": str(self.version)},
                "spec": {
                    "app": "shop",
                    "image": "shop:1",
                    "replicas": 1,
                    "queues": [key.name],
                    "broker": {"url": "redis://redis/0"},
                    "autoscaling": {"maxReplicas": 8, "target": {"backlogPerReplica": 5}},
                    **spec,
                },
            }
        )

    async def settle(self) -> None:
        """Let everything happen that can."""
        await self.scaler.arrange()
        for _ in range(20):
            await asyncio.sleep(0)

    async def write(self) -> None:
        await asyncio.wait_for(self.scaler.write_once(), 5)

    def condition(self, key: Key = EMAILS) -> tuple[str, str]:
        state = self.scaler.state(key)
        assert state is not None
        return state.activity, state.message

    def replicas(self, key: Key = EMAILS) -> int:
        found: int = (self.caches.pools.get(key) or {})["spec"]["replicas"]
        return found

    async def round(self, what: Mapping[Key, int] | BrokerError, url: str = URL) -> None:
        """The next round of a broker finds this backlog, or fails."""
        broker = self.brokers[url]
        broker.answers.put_nowait(what)
        await broker.taken.wait()
        broker.taken.clear()
        for _ in range(5):
            await asyncio.sleep(0)


class StandIn:
    """A broker whose rounds the test makes: each read waits for an answer."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Mapping[Key, int] | BrokerError] = asyncio.Queue()
        self.taken = asyncio.Event()
        self.asked: tuple[str, ...] = ()
        self.is_closed = False

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        del only  # a broker may answer more than it is asked
        self.asked = tuple(each.pool for each in pools)
        answer = await self.answers.get()
        self.taken.set()
        if isinstance(answer, BrokerError):
            raise answer
        return {str(key): Reading(Figures(read_at=now, backlog=n), {key.name: n}) for key, n in answer.items()}

    async def arrival(self) -> frozenset[str]:
        return frozenset(self.asked)  # the next round follows at once

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("celeriac_operator.autoscaling.polling.LEAST_SECONDS", 0)
    it = World()
    yield it
    await it.scaler.close()


async def test_a_backlog_becomes_a_number_and_is_told_of(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 12})
    await world.write()
    assert (world.written, world.replicas()) == ([("emails", 3)], 3)
    state = world.scaler.state(EMAILS)
    assert state is not None
    (decision,) = state.decisions
    assert (decision.from_replicas, decision.to_replicas, decision.backlog) == (1, 3, 12)
    assert world.condition() == ("Active", "backlog 12 / 5 per replica")
    assert await world.queue.get() == EMAILS
    up = world.metrics.registry.get_sample_value("celeriac_operator_scaling_decisions_total", {"direction": "up"})
    assert up == 1


async def test_pools_on_one_broker_share_a_connection_which_goes_with_the_last_of_them(world: World) -> None:
    world.pool()
    world.pool(LETTERS)
    await world.settle()
    assert world.brokers[URL].asked == ("shop/emails", "shop/letters")
    world.caches.remove_pool(EMAILS, 10_000)
    await world.settle()
    await world.round({LETTERS: 0})
    assert world.brokers[URL].asked == ("shop/letters",)
    world.caches.remove_pool(LETTERS, 20_000)
    await world.settle()
    assert world.brokers[URL].is_closed


async def test_the_queues_of_a_pool_without_autoscaling_are_reported_and_its_number_is_never_set(world: World) -> None:
    world.pool()
    await world.settle()
    world.pool(autoscaling=None)
    manifest = world.caches.pools.get(EMAILS) or {}
    del manifest["spec"]["autoscaling"]
    await world.settle()
    await world.round({EMAILS: 12})
    state = world.scaler.state(EMAILS)
    assert state is not None
    assert world.scaler._writes.depth() == 0
    assert sum((state.backlog or {}).values()) == 12
    assert (world.written, world.queue.depth()) == ([], 1)
    labels = {"pool_namespace": "shop", "pool": "emails"}
    assert world.metrics.registry.get_sample_value("celeriac_operator_pool_backlog_messages", labels) == 12
    assert world.metrics.registry.get_sample_value("celeriac_operator_scaling_backlog_messages", labels) is None


async def test_with_the_switch_off_only_pools_with_autoscaling_are_read(world: World) -> None:
    world.scaler._reports_all = False
    world.pool()
    world.pool(LETTERS)
    manifest = world.caches.pools.get(LETTERS) or {}
    del manifest["spec"]["autoscaling"]
    await world.settle()
    assert world.brokers[URL].asked == ("shop/emails",)
    state = world.scaler.state(LETTERS)
    assert state is not None
    assert not state.is_read


async def test_a_moment_without_figures_is_none_and_a_longer_one_freezes(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 4})
    world.now += 9
    await world.round(Unreachable("gone"))
    assert world.condition() == ("Active", "backlog 4 / 5 per replica")
    world.now += 2
    await world.round(Unreachable("gone"))
    assert world.condition() == ("BrokerUnreachable", "held at 1: gone")
    await world.round({EMAILS: 4})
    assert world.condition()[0] == "Active"


async def test_a_round_that_hangs_freezes_as_well(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 4})
    world.now += 11
    await world.settle()
    assert world.condition() == ("FiguresStale", "held at 1: the newest figures are 11 s old")


async def test_what_was_decided_before_a_gap_is_not_written_in_it(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 40})
    await world.round(Unreachable("gone"))
    await world.write()
    assert world.written == []


async def test_a_pool_that_the_broker_does_not_show_stays_as_it_is(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({LETTERS: 40})
    assert world.condition()[0] == "FiguresRefused"


async def test_a_suspended_pool_is_looked_at_and_not_scaled(world: World) -> None:
    world.pool(suspend=True)
    await world.settle()
    await world.round({EMAILS: 40})
    state = world.scaler.state(EMAILS)
    assert state is not None
    assert state.backlog == {"emails": 40}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.scaler.write_once(), 0.01)


@pytest.mark.parametrize("status", [409, 500])
async def test_a_number_that_is_refused_is_decided_anew(world: World, status: int) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 12})
    world.refusal = ApiError(status, "No", "no")
    await world.write()
    world.refusal = None
    await world.round({EMAILS: 22})
    await world.write()
    assert world.written == [("emails", 5)]


async def test_the_status_is_asked_for_when_something_begins_and_else_seldom(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 5})
    assert world.queue.depth() == 1
    world.queue.done(await world.queue.get())
    await world.round({EMAILS: 4})
    assert world.queue.depth() == 0
    world.now += 30
    await world.round({EMAILS: 3})
    assert world.queue.depth() == 1


FROM_SECRET = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}


async def test_a_url_in_a_secret_is_read_when_a_pass_has_seen_the_secret_and_again_when_it_changes(
    world: World,
) -> None:
    world.pool(**FROM_SECRET)
    world.secrets["redis"] = "redis://:first@redis/0"
    await world.settle()
    assert world.brokers == {}
    world.caches.observe_secret(world.secret("redis"))
    await world.settle()
    assert list(world.brokers) == ["redis://:first@redis.shop/0"]
    world.secrets["redis"] = "redis://:second@redis/0\n"
    world.caches.observe_secret(world.secret("redis"))
    await world.settle()
    assert [(url, it.is_closed) for url, it in world.brokers.items()] == [
        ("redis://:first@redis.shop/0", True),
        ("redis://:second@redis.shop/0", False),
    ]


async def test_credentials_that_the_broker_refuses_are_read_again(world: World) -> None:
    world.pool(**FROM_SECRET)
    world.secrets["redis"] = "redis://:first@redis/0"
    world.caches.observe_secret(world.secret("redis"))
    await world.settle()
    world.secrets["redis"] = "redis://:second@redis/0"  # and no event tells
    await world.round(AuthenticationFailed("refused"), "redis://:first@redis.shop/0")
    assert world.condition() == ("AuthenticationFailed", "held at 1: refused")
    await world.settle()
    assert len(world.brokers) == 1
    world.now += 10
    await world.settle()
    assert list(world.brokers) == ["redis://:first@redis.shop/0", "redis://:second@redis.shop/0"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(None, ("SecretNotFound", "held at 1: Secret redis does not exist"), id="no Secret"),
        pytest.param("", ("SecretNotFound", "held at 1: Secret redis has no key url"), id="no key"),
        pytest.param(
            "memory://", ("UnusableURL", "held at 1: queues of memory:// brokers cannot be read"), id="another broker"
        ),
    ],
)
async def test_no_broker_to_ask(world: World, url: str | None, expected: tuple[str, str]) -> None:
    world.pool(**FROM_SECRET)
    if url is None:
        world.caches.remove_secret(Key("shop", "redis"), 5)
    else:
        world.secrets["redis"] = url
        manifest = world.secret("redis")
        world.caches.observe_secret(manifest if url else {**manifest, "data": {}})
    await world.settle()
    assert world.condition() == expected


async def test_rounds_go_on_after_a_bug_in_one_of_them() -> None:
    broker, seen = StandIn(), asyncio.Event()

    def take(readings: object, at: float, only: object) -> None:
        if at == 0:
            raise RuntimeError("a bug")
        seen.set()

    time = iter(range(1000))
    poller = Poller(broker, tuple, take, clock=lambda: next(time))
    broker.answers.put_nowait({})
    broker.answers.put_nowait({})
    task = asyncio.create_task(poller.run())
    await asyncio.wait_for(seen.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert broker.is_closed


class Announcer(StandIn):
    """A broker that answers at once and announces what the test says; it notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.reads: list[set[str] | None] = []

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        del pools, now
        self.reads.append(None if only is None else set(only))
        return {}

    async def arrival(self) -> frozenset[str]:
        return await self.arrivals.get()


async def test_arrivals_are_looked_at_alone_and_one_pool_ten_times_a_second_at_most() -> None:
    broker, now = Announcer(), [0.0]
    pools = [Watched(name, ("mail",), is_scaled=name != "slow") for name in ("a", "b", "c", "d", "slow")]
    poller = Poller(broker, lambda: pools, lambda *_: None, clock=lambda: now[0])
    task = asyncio.create_task(poller.run())

    async def arrives(*names: str, after: float) -> list[set[str] | None]:
        now[0] += after
        broker.reads.clear()
        broker.arrivals.put_nowait(frozenset(names))
        for _ in range(20):
            await asyncio.sleep(0)
        return list(broker.reads)

    await asyncio.sleep(0)
    assert await arrives("a", after=0.01) == [{"a"}]
    assert await arrives("a", "b", after=0.01) == [{"b"}], "a was looked at a moment ago"
    assert await arrives("c", after=0.1) == [{"a", "c"}]
    assert await arrives("slow", after=0.1) == [], "its queues are only reported"
    assert await arrives("d", after=1) == [{"a", "b", "c", "d"}], "all that scale are read anyway"
    assert await arrives("d", after=9) == [None], "and the others every ten seconds"
    pools.append(Watched("e", ("mail",)))
    assert await arrives("d", after=1) == [None], "a new pool is read at once"
    pools[:] = [Watched("slow", ("mail",), is_scaled=False)]
    assert [await arrives("slow", after=1) for _ in range(3)] == [[None], [], []], "nothing else is read for it"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_before_somebody_else_who_scales_it_steps_back(world: World) -> None:
    world.pool()
    await world.settle()
    await world.round({EMAILS: 12})
    for _ in range(3):
        await world.write()
        world.pool(replicas=1)
        await world.round({EMAILS: 12})
    assert world.condition()[0] == "Contested"
    assert world.written == [("emails", 3)] * 3


async def test_pools_of_one_broker_that_name_another_management_api_are_read_there(world: World) -> None:
    scaling = {"maxReplicas": 8, "target": {"backlogPerReplica": 5}}
    world.pool(broker={"url": "amqp://rabbit//"}, autoscaling=scaling)
    world.pool(
        LETTERS, broker={"url": "amqp://rabbit//"}, autoscaling={**scaling, "managementUrl": "http://rabbit:8080"}
    )
    await world.settle()
    assert world.managed == ["", "http://rabbit.shop:8080"]
