"""Outages of Redis at the level of leases: who owns a message afterwards, and what it has cost the message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.worker.processes import RedisServer

from celeriac.delivery import scripts
from celeriac.delivery.holdings import Holdings
from celeriac.delivery.renewal import LeaseRenewal
from celeriac.delivery.values import taking
from celeriac.delivery.values.outcomes import Outcome
from celeriac.store import keys

LEASE_SECONDS = 60
WORKERS = 3


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def a_message(number: int) -> str:
    return json.dumps({"body": "", "headers": {"id": str(number)}, "properties": {"n": number, "delivery_info": {}}})


def a_worker(client: Any, *, lease_seconds: float = LEASE_SECONDS) -> Holdings:
    worker = Holdings(lambda: client, lease_seconds=lease_seconds, where="tested")
    worker.watch(["x"])
    return worker


def take(client: Any, worker: Holdings, most: int, *, is_received: bool = True) -> list[str]:
    """The ids of what was taken; an answer that is not received leaves the worker without that knowledge."""
    first = worker.numbers(most)
    names, args = taking.Take(
        queues=["x"],
        lists=["x"],
        most=most,
        lease_seconds=worker.lease_seconds,
        identity=worker.identity,
        first=first,
    ).build()
    answer = taking.read(scripts.TAKE.run(client, names, args))
    ids = [worker.id_of(first + number) for number, _, _ in answer.taken]
    if not is_received:
        worker.note_unanswered(first, most, ["x"])
        return ids
    for delivery in ids:
        worker.add(delivery, "x")
    return ids


def step_clock(client: Any, seconds: float) -> None:
    """Move every time that is stored in Redis back by `seconds`, as if that time had passed."""
    for member, score in client.zrange(keys.leases("x"), 0, -1, withscores=True):
        client.zadd(keys.leases("x"), {member: score - seconds * 1000})
    for name, value in client.hgetall(keys.renewed("x")).items():
        client.hset(keys.renewed("x"), name, int(float(value) - seconds * 1000))


def properties(client: Any) -> list[dict[str, Any]]:
    """Those of the messages in the list, the next one to be taken first."""
    return [json.loads(it)["properties"] for it in reversed(client.lrange("x", 0, -1))]


outages = st.lists(
    st.tuples(
        st.floats(0, 10 * LEASE_SECONDS),  # shorter and longer than every time that counts
        st.permutations(range(WORKERS)),  # in which order they come back
        st.sampled_from([None, None, *range(WORKERS)]),  # who dies meanwhile
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outages)
def test_an_outage_of_any_length_takes_nothing_from_the_living_and_the_dead_are_found(
    client: Any, outages: list[tuple[float, list[int], int | None]]
) -> None:
    client.flushall()
    for number in range(WORKERS):
        client.lpush("x", a_message(number))
    workers: dict[int, Holdings] = {number: a_worker(client) for number in range(WORKERS)}
    for worker in workers.values():
        take(client, worker, 1)
        LeaseRenewal(worker).run_once()
    for seconds, order, dies in outages:
        step_clock(client, seconds)
        if len(workers) > 1 and dies is not None:
            workers.pop(dies, None)
        for number in order:
            if number in workers:
                assert LeaseRenewal(workers[number]).run_once().lost == []
    assert all(len(worker) == 1 for worker in workers.values())
    for _ in range(8):  # two leases without an outage
        step_clock(client, LEASE_SECONDS / 4)
        for worker in workers.values():
            assert LeaseRenewal(worker).run_once().lost == []
    assert client.llen("x") == WORKERS - len(workers)
    assert client.hlen(keys.held("x")) == len(workers)


def test_without_an_outage_a_dead_workers_message_comes_back_after_its_lease(client: Any) -> None:
    """The grace costs nothing where somebody has renewed all the time."""
    client.lpush("x", a_message(0))
    gone, other = a_worker(client), a_worker(client)
    take(client, gone, 1)
    expired = []
    for _ in range(5):
        expired.append(LeaseRenewal(other).run_once().expired)
        step_clock(client, LEASE_SECONDS / 4)
    assert expired == [0, 0, 0, 0, 1]


def test_a_pool_with_a_short_lease_waits_for_the_owners_with_a_long_one(client: Any) -> None:
    client.lpush("x", a_message(0))
    short, long = a_worker(client, lease_seconds=5), a_worker(client, lease_seconds=300)
    take(client, long, 1)
    for worker in (long, short):
        LeaseRenewal(worker).run_once()
    step_clock(client, 400)
    for _ in range(3):
        assert LeaseRenewal(short).run_once().expired == 0
        step_clock(client, 5)
    assert LeaseRenewal(long).run_once().lost == []


def test_a_lease_that_was_found_run_out_and_then_renewed_is_its_owners_after_another_outage(client: Any) -> None:
    client.lpush("x", a_message(0))
    owner = a_worker(client)
    [delivery] = take(client, owner, 1)
    found = str(int(client.zscore(keys.leases("x"), delivery)))
    step_clock(client, 1)
    LeaseRenewal(owner).run_once()
    step_clock(client, 1000)
    names = [keys.held("x"), keys.leases("x"), "x"]
    assert scripts.GIVE_BACK_EXPIRED.run(client, names, [delivery, "front", "{}", found]) == 0


def test_a_clock_that_steps_back_does_not_make_the_grace_longer(client: Any) -> None:
    client.lpush("x", a_message(0))
    gone, other = a_worker(client), a_worker(client)
    take(client, gone, 1)
    LeaseRenewal(other).run_once()
    step_clock(client, -3600)
    LeaseRenewal(other).run_once()
    client.zadd(keys.leases("x"), dict.fromkeys(client.zrange(keys.leases("x"), 0, -1), 1))
    step_clock(client, 0.6 * LEASE_SECONDS)
    LeaseRenewal(other).run_once()  # that was a silence
    for _ in range(3):
        step_clock(client, 0.25 * LEASE_SECONDS)
        expired = LeaseRenewal(other).run_once().expired
        if expired:
            break
    assert expired == 1


# --- what waits


def test_what_cannot_be_given_back_in_an_outage_is_given_back_after_it_in_order_and_uncounted(
    client: Any, redis_server: RedisServer
) -> None:
    for number in range(5):
        client.lpush("x", a_message(number))
    worker = a_worker(client)
    ids = take(client, worker, 4)
    redis_server.stop()
    assert worker.give_back(ids, Outcome.RETURNED, "tested") == 0
    assert len(worker) == 4
    redis_server.start()
    worker.catch_up()
    assert len(worker) == 0
    assert [it["n"] for it in properties(client)] == [0, 1, 2, 3, 4]
    assert not any("celeriac" in it for it in properties(client))
    assert worker.lost_count == 0


@pytest.mark.parametrize("is_late", [False, True], ids=["before it is looked for", "after it was looked for"])
def test_what_an_unanswered_take_has_taken_is_given_back_uncounted(client: Any, is_late: bool) -> None:
    for number in range(3):
        client.lpush("x", a_message(number))
    worker = a_worker(client)
    if is_late:
        # A server that was paused runs the script after its client has gone.
        first = worker.numbers(2)
        worker.note_unanswered(first, 2, ["x"])
        worker.catch_up()
        names, args = taking.Take(
            queues=["x"], lists=["x"], most=2, lease_seconds=60, identity=worker.identity, first=first
        ).build()
        scripts.TAKE.run(client, names, args)
    else:
        take(client, worker, 2, is_received=False)
    assert client.hlen(keys.held("x")) == 2
    worker.catch_up()
    assert client.hlen(keys.held("x")) == 0
    assert [it["n"] for it in properties(client)] == [0, 1, 2]
    assert not any("celeriac" in it for it in properties(client))
    assert worker.lost_count == 0


def test_an_end_that_is_told_twice_is_not_taken_for_a_lost_lease(client: Any) -> None:
    """The answer to the first time was not received."""
    client.lpush("x", a_message(0))
    worker = a_worker(client)
    [delivery] = take(client, worker, 1)
    worker.settle([(delivery, "x")])
    worker.settle([(delivery, "x")])
    assert worker.lost_count == 0


# --- how much one call does


def test_leases_are_renewed_in_slices_and_every_lost_one_is_named(client: Any) -> None:
    worker = a_worker(client)
    ids = [f"{worker.identity}:{number}" for number in range(2500)]
    for delivery in ids:
        worker.add(delivery, "x")
    client.zadd(keys.leases("x"), dict.fromkeys(ids, 1))
    lost = [ids[0], ids[999], ids[1000], ids[2499]]
    client.zrem(keys.leases("x"), *lost)
    client.script_load(scripts.RENEW.source)
    client.config_resetstat()
    done = LeaseRenewal(worker).run_once()
    assert (done.renewed, sorted(done.lost)) == (2500, sorted(lost))
    assert client.zcount(keys.leases("x"), 2, "+inf") == 2500 - len(lost)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
    assert client.info("commandstats")["cmdstat_zadd"]["calls"] == 5


def test_an_error_in_one_queue_leaves_the_leases_of_the_others_alone(client: Any) -> None:
    client.lpush("x", a_message(0))
    worker = a_worker(client)
    [delivery] = take(client, worker, 1)
    worker.watch(["a", "y"])
    client.set(keys.renewed("a"), "of a wrong type")
    client.set(keys.renewed("y"), "of a wrong type")
    before = client.zscore(keys.leases("x"), delivery)
    step_clock(client, 5)
    with pytest.raises(redis.RedisError, match=r"WRONGTYPE.*'a', and 1 more"):
        LeaseRenewal(worker).run_once()
    assert client.zscore(keys.leases("x"), delivery) >= before
