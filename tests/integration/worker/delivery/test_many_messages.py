"""For how long does one call block Redis, when a worker holds thousands of messages that wait for their ETA?

The server runs one script at a time, so every client waits meanwhile. The time is that of the server's own CPU, which
does not grow on a busy machine. The long form holds 50,000 messages: `TEST_MESSAGES=50000`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from tests.integration.worker.processes import RedisServer

from celeriac.delivery import scripts
from celeriac.delivery.holdings import Holdings
from celeriac.delivery.renewal import LeaseRenewal
from celeriac.delivery.transport.qos import MOST_AT_ONCE
from celeriac.delivery.values import taking
from celeriac.store import keys

MESSAGES = int(os.environ.get("TEST_MESSAGES", "5000"))
LONGEST_MS = 20.0
"""Of the server's CPU, for one call; measured: 1 to 3 ms."""


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url, socket_timeout=60) as it:
        yield it


@pytest.mark.timeout(600 if MESSAGES > 5000 else 120)
def test_no_call_blocks_redis_for_long_however_many_messages_wait(
    client: Any, record_property: Callable[[str, object], None]
) -> None:
    worker = Holdings(lambda: client, lease_seconds=60)
    push(client)
    figures = {"take": cpu_ms_of_each_call(client, lambda: take_all(client, worker))}
    assert client.hlen(keys.held("x")) == len(worker) == MESSAGES
    figures["renew"] = cpu_ms_of_each_call(client, lambda: LeaseRenewal(worker).run_once())
    assert client.zcount(keys.leases("x"), 1, "+inf") == MESSAGES
    pairs = [(delivery, "x") for delivery in worker.ids()]
    figures["settle"] = cpu_ms_of_each_call(client, lambda: worker.settle(pairs))
    assert client.hlen(keys.held("x")) == 0
    for name, milliseconds in figures.items():
        record_property(name, milliseconds)
        print(f"{name}: {milliseconds:.2f} ms of the server's CPU for each call, {MESSAGES} messages")
    assert max(figures.values()) < LONGEST_MS, figures


def push(client: Any) -> None:
    headers = {"task": "t", "eta": "2999-01-01T00:00:00+00:00"}
    for begin in range(0, MESSAGES, 1000):
        count = min(1000, MESSAGES - begin)
        client.lpush("x", *(json.dumps({"headers": {**headers, "id": str(begin + it)}}) for it in range(count)))


def take_all(client: Any, worker: Holdings) -> None:
    while len(worker) < MESSAGES:
        first = worker.numbers(MOST_AT_ONCE)
        take = taking.Take(
            queues=["x"], lists=["x"], most=MOST_AT_ONCE, lease_seconds=60, identity=worker.identity, first=first
        )
        for number, _, _ in taking.read(scripts.TAKE.run(client, *take.build())).taken:
            worker.add(worker.id_of(first + number), "x")


def cpu_ms_of_each_call(client: Any, action: Callable[[], object]) -> float:
    """What one script call took of the server's main thread, on average."""
    client.config_resetstat()
    before = cpu_seconds(client)
    action()
    seconds = cpu_seconds(client) - before
    calls = sum(it["calls"] for name, it in client.info("commandstats").items() if name.startswith("cmdstat_eval"))
    return seconds * 1000 / calls


def cpu_seconds(client: Any) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])
