"""The delivery's scripts against a real Redis: whatever happens in whatever order, every message is in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac.delivery import scripts
from celeriac.delivery.holdings import Holdings
from celeriac.delivery.renewal import LeaseRenewal
from celeriac.delivery.values import taking
from celeriac.delivery.values.outcomes import Outcome
from celeriac.store import keys

QUEUES = ["x", "y"]
PRIORITIES = ["", "\x06\x163"]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def a_message(number: int) -> str:
    return json.dumps({"body": "", "headers": {"id": str(number)}, "properties": {"n": number, "delivery_info": {}}})


def ask(client: Any, holdings: Holdings, most: int, *, fair: bool = True, looks: bool = False) -> Any:
    """As the transport does; the number of the first delivery and the answer."""
    first = holdings.numbers(most)
    names, args = taking.Take(
        queues=QUEUES,
        lists=[queue + priority for priority in PRIORITIES for queue in QUEUES],
        most=most,
        lease_seconds=holdings.lease_seconds,
        identity=holdings.identity,
        first=first,
        is_fair=fair,
        looks_first=looks,
    ).build()
    return first, taking.read(scripts.TAKE.run(client, names, args))


def take(
    client: Any, holdings: Holdings, most: int, *, fair: bool = True, looks: bool = False
) -> list[tuple[str, int]]:
    """The ids of what was taken, and the messages' numbers."""
    first, answer = ask(client, holdings, most, fair=fair, looks=looks)
    found = []
    for number, queue, message in answer.taken:
        delivery = holdings.id_of(first + number)
        holdings.add(delivery, QUEUES[queue])
        found.append((delivery, json.loads(message)["properties"]["n"]))
    return found


def everything(client: Any) -> list[int]:
    """The numbers of all messages, wherever they are."""
    found = []
    for queue in QUEUES:
        for priority in PRIORITIES:
            found += [json.loads(it)["properties"]["n"] for it in client.lrange(queue + priority, 0, -1)]
        for value in client.hvals(keys.held(queue)):
            found.append(json.loads(value[value.index(b"{") :])["properties"]["n"])
        assert set(client.hkeys(keys.held(queue))) == set(client.zrange(keys.leases(queue), 0, -1))
        for _, fields in client.xrange(keys.dead(queue)):
            found.append(json.loads(fields[b"message"])["properties"]["n"])
    return sorted(found)


def let_renewals_be_recent(client: Any) -> None:
    """Somebody has renewed leases of both queues just now: there was no outage, after which owners come first."""
    seconds, microseconds = client.time()
    for queue in QUEUES:
        client.hset(keys.renewed(queue), mapping={"60000": seconds * 1000 + microseconds // 1000, "grace": 0})


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(QUEUES), st.sampled_from(PRIORITIES)),
        st.tuples(st.sampled_from(["take", "look"]), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(
            st.sampled_from(["settle", "return", "requeue", "dead-letter", "twice"]),
            st.integers(0, 1),
            st.integers(0, 9),
        ),
        st.tuples(st.sampled_from(["renew", "die"]), st.integers(0, 1), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_every_message_is_in_one_place_until_it_is_settled(client: Any, steps: list[tuple[str, Any, Any]]) -> None:
    client.flushall()
    workers = [Holdings(lambda: client, lease_seconds=60, where=f"w{n}") for n in range(2)]
    for worker in workers:
        worker.watch(QUEUES)
    sent, settled = 0, set()
    numbers: dict[str, int] = {}
    for step, first, second in steps:
        if step == "push":
            client.lpush(first + second, a_message(sent))
            sent += 1
        elif step in {"take", "look"}:
            numbers.update(take(client, workers[first], second, looks=step == "look"))
        elif step == "renew":
            assert LeaseRenewal(workers[first]).run_once().lost == []
        elif step == "die":
            # Its leases run out, the other one notices.
            gone, other = workers[first], workers[1 - first]
            for delivery in gone.ids():
                client.zadd(keys.leases(str(gone.queue_of(delivery))), {delivery: 1})
            count = len(gone)
            let_renewals_be_recent(client)
            workers[first] = Holdings(lambda: client, lease_seconds=60, where="next")
            workers[first].watch(QUEUES)
            assert LeaseRenewal(other).run_once().expired == count
        elif worker_ids := workers[first].ids():
            delivery = worker_ids[second % len(worker_ids)]
            queue = str(workers[first].queue_of(delivery))
            if step in {"settle", "twice"}:
                workers[first].forget(delivery)
                for _ in range(2 if step == "twice" else 1):
                    workers[first].settle([(delivery, queue)])
                settled.add(numbers[delivery])
            elif step == "dead-letter":
                assert workers[first].dead_letter(delivery, queue, a_message(numbers[delivery]).encode(), "tested")
            else:
                outcome = Outcome.RETURNED if step == "return" else Outcome.REQUEUED
                assert workers[first].give_back([delivery], outcome, "tested") == 1
        assert everything(client) == sorted(set(range(sent)) - settled)


def test_what_goes_back_to_the_front_stands_in_its_old_order(client: Any) -> None:
    for number in range(4):
        client.lpush("x", a_message(number))
    worker = Holdings(lambda: client, lease_seconds=60)
    taken = take(client, worker, 3)
    worker.give_back([delivery for delivery, _ in taken], Outcome.RETURNED, "tested")
    assert [number for _, number in take(client, worker, 4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("fair", "expected"), [(True, "xyxyx"), (False, "xxxyy")], ids=["in turn", "in strict order"])
def test_queues_are_taken(client: Any, fair: bool, expected: str) -> None:
    for number, queue in enumerate("xxxyyy"):
        client.lpush(queue, a_message(number))
    worker = Holdings(lambda: client, lease_seconds=60)
    taken = take(client, worker, 5, fair=fair)
    assert "".join(str(worker.queue_of(delivery)) for delivery, _ in taken) == expected


def test_a_lost_lease_is_noticed_and_its_late_end_changes_nothing(client: Any) -> None:
    client.lpush("x", a_message(0))
    slow, other = (Holdings(lambda: client, lease_seconds=60) for _ in range(2))
    slow.watch(QUEUES)
    other.watch(QUEUES)
    [(delivery, _)] = take(client, slow, 1)
    client.zadd(keys.leases("x"), {delivery: 1})
    let_renewals_be_recent(client)
    assert LeaseRenewal(other).run_once().expired == 1
    [(second, _)] = take(client, other, 1)
    assert LeaseRenewal(slow).run_once().lost == [delivery]
    slow.settle([(delivery, "x")])
    assert slow.lost_count == 2
    assert client.hkeys(keys.held("x")) == [second.encode()]


def test_an_expired_lease_that_was_renewed_in_time_is_left_alone(client: Any) -> None:
    client.lpush("x", a_message(0))
    worker = Holdings(lambda: client, lease_seconds=60)
    [(delivery, _)] = take(client, worker, 1)
    names = [keys.held("x"), keys.leases("x"), "x"]
    assert scripts.GIVE_BACK_EXPIRED.run(client, names, [delivery, "front", "{}", "1"]) == 0
    assert client.llen("x") == 0


def test_ends_that_redis_did_not_hear_of_are_settled_later(client: Any, redis_server: RedisServer) -> None:
    client.lpush("x", a_message(0))
    worker = Holdings(lambda: client, lease_seconds=60)
    worker.watch(QUEUES)
    [(delivery, queue)] = take(client, worker, 1)[:1]
    redis_server.stop()
    worker.forget(delivery)
    worker.settle([(delivery, "x")])
    assert delivery in worker
    redis_server.start()
    LeaseRenewal(worker).run_once()
    assert delivery not in worker
    assert everything(client) == []
    assert queue == 0


def let_a_millisecond_pass(client: Any) -> None:
    """Of the server's clock, by which the line is ordered."""
    now = client.time()
    eventually(client.time, lambda it: it[0] > now[0] or it[1] > now[1] + 1000, every=0.001)


def test_who_waits_longest_stands_first_and_who_got_something_stands_last(client: Any) -> None:
    workers = [Holdings(lambda: client, lease_seconds=60) for _ in range(3)]

    def places() -> list[int]:
        return [ask(client, worker, 5, looks=True)[1].place for worker in workers]

    for place, worker in enumerate(workers):
        let_a_millisecond_pass(client)
        assert ask(client, worker, 5)[1].place == place
    assert places() == [0, 1, 2]
    client.lpush("x", a_message(0))
    let_a_millisecond_pass(client)
    assert len(take(client, workers[0], 5)) == 1
    assert places() == [2, 0, 1]


def test_who_died_in_the_line_is_forgotten(client: Any) -> None:
    worker = Holdings(lambda: client, lease_seconds=60)
    worker.watch(QUEUES)
    client.zadd(keys.line("x"), {"dead:": 1})
    assert ask(client, worker, 5)[1].place == 1
    LeaseRenewal(worker).run_once()
    assert ask(client, worker, 5)[1].place == 0
