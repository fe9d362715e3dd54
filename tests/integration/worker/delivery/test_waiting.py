"""How workers wait for messages: for next to nothing, woken at once, and each in its turn."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Queue
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess
from tests.waiting import eventually

from celeriac.delivery import transport
from celeriac.delivery.holdings import Holdings
from celeriac.store import keys

IDLE_SECONDS = 10
CROWD = 200


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def send(producer: Celery, line: str, **options: Any) -> None:
    producer.send_task("deadly.note", args=(line,), ignore_result=True, **options)


def notes(worker: WorkerProcess) -> list[str]:
    file = worker.directory / "notes"
    return file.read_text().split() if file.exists() else []


def nothing_is_left(client: Any, *queues: str) -> bool:
    return not client.exists(*queues, *map(keys.held, queues), *map(keys.leases, queues))


def waits(client: Any) -> bool:
    """Whether a client has found all queues empty and is notified of the next message."""
    return bool(client.info("stats")["tracking_total_keys"] and client.zcard(keys.line("x")))


def fetching(client: Any) -> list[str]:
    """The connections that track what they read: those that messages are taken by."""
    return [it["id"] for it in client.client_list() if "t" in it["flags"]]


INSIDE = {"info", "publish", "time", "rpop", "exists", "zadd", "zrank", "zrangebyscore", "zremrangebyscore"}


def commands(client: Any) -> dict[str, int]:
    """Commands that clients have sent: without what scripts have run, this question, and Celery's own heartbeats."""
    stats = {name.removeprefix("cmdstat_"): it["calls"] for name, it in client.info("commandstats").items()}
    return {name: calls for name, calls in stats.items() if name not in INSIDE}


def test_an_idle_worker_sends_at_most_two_commands_a_second(
    producer: Celery, start_worker: StartWorker, client: Any
) -> None:
    worker = start_worker("deadly:app", worker={"pool": "threads"}, queues=["x", "y"])
    send(producer, "first", queue="x")
    worker.until(lambda: notes(worker) and nothing_is_left(client, "x") and waits(client))
    worker.until(lambda: client.keys("celeriac:workers:*"))  # its first renewal, and so its last new connection
    before = Counter(commands(client))
    time.sleep(IDLE_SECONDS)  # the time itself is tested
    sent = Counter(commands(client)) - before
    assert sent.total() <= 2 * IDLE_SECONDS, sent


def test_an_idle_worker_wakes_at_once(producer: Celery, start_worker: StartWorker, client: Any) -> None:
    worker = start_worker("deadly:app", worker={"pool": "threads"}, queues=["x", "y"]).until_ready()
    delays = []
    for number in range(40):
        worker.until(lambda: nothing_is_left(client, "x", "y") and waits(client))
        sent = time.monotonic()
        send(producer, str(number), queue="y" if number % 2 else "x")
        eventually(lambda number=number: len(notes(worker)) == number + 1, every=0.0005)
        delays.append(time.monotonic() - sent)
    # `make bench-wakeup` measures; a poller with a period would need half of it here.
    assert statistics.median(delays) < 0.1


def test_messages_of_other_queues_do_not_disturb_a_worker_that_is_full(
    producer: Celery, start_worker: StartWorker, client: Any
) -> None:
    worker = start_worker("deadly:app", worker={"pool": "threads", "prefetch": 0}, queues=["x", "y"]).until_ready()
    worker.until(lambda: waits(client))
    producer.send_task("deadly.note", args=("long", 3), queue="x")
    worker.until(lambda: notes(worker))
    before = fetching(client)
    for number in range(10):
        client.lpush("y", f"no message {number}")
    worker.until(lambda: client.llen("y") == 0, what="the task has ended, and all the rest was looked at")
    assert fetching(client) == before


class Consumer:
    """A consumer with a connection of its own that settles each message at once."""

    def __init__(self, url: str) -> None:
        self.holdings = Holdings(lambda: redis.Redis.from_url(url), lease_seconds=60)
        transport.register(self.holdings)
        options = {transport.OPTION: self.holdings.identity}
        self.connection = Connection(url, transport="celeriac.delivery.transport:Transport", transport_options=options)
        self.got: list[str] = []
        self.is_ending = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with self.connection.Consumer(Queue("x"), callbacks=[self.take], prefetch_count=1):
            while not self.is_ending:
                with contextlib.suppress(TimeoutError):
                    self.connection.drain_events(timeout=1)
        self.connection.release()

    def take(self, body: str, message: Any) -> None:
        self.got.append(body)
        message.ack()


@pytest.mark.timeout(240)
def test_two_hundred_idle_workers_take_turns(redis_server: RedisServer, client: Any) -> None:
    consumers = [Consumer(redis_server.url) for _ in range(CROWD)]
    try:
        eventually(lambda: client.zcard(keys.line("x")), lambda it: it == CROWD, timeout=90, what="all wait")
        delays = []
        with Connection(redis_server.url) as connection:
            producer = connection.SimpleQueue("x")
            for number in range(100):
                sent = time.monotonic()
                producer.put(str(number))
                eventually(
                    lambda: sum(len(it.got) for it in consumers),
                    lambda it, number=number: it == number + 1,
                    timeout=30,
                    every=0.001,
                )
                delays.append(time.monotonic() - sent)
        assert sorted((body for it in consumers for body in it.got), key=int) == [str(n) for n in range(100)]
        most = max(len(it.got) for it in consumers)
        served = sum(bool(it.got) for it in consumers)
        assert most <= 10, f"one of {CROWD} got {most} of 100 messages, {served} got any"
        assert served >= 30
        eventually(lambda: nothing_is_left(client, "x"), what="everything is settled")
        assert statistics.median(delays) < 1, "with all of them in one Python process"
    finally:
        for consumer in consumers:
            consumer.is_ending = True
        for consumer in consumers:
            consumer.thread.join(30)
            transport.unregister(consumer.holdings)


@pytest.mark.parametrize("task", ["hoarding.pass_by", "hoarding.pass_slowly"])
@pytest.mark.parametrize("countdown", [None, 0.5], ids=["at once", "later"])
def test_no_request_is_left_for_the_garbage_collector(
    task: str, countdown: float | None, start_worker: StartWorker, producer: Celery
) -> None:
    """What only a full collection can find piles up until it halts a worker for a tenth of a second."""
    start_worker("hoarding:app", worker={"pool": "threads", "prefetch": 100})
    results = [producer.send_task(task, countdown=countdown) for _ in range(50)]
    for result in results:
        result.get(timeout=30)
    # Those that end or run at this moment, and what names of the loop still hold.
    assert producer.send_task("hoarding.count_requests").get(timeout=30) < 10


def test_a_rate_limit_is_reached_by_many_that_wait(start_worker: StartWorker, producer: Celery) -> None:
    """kombu's loop would sleep for a second after each tenth timer."""
    results = [producer.send_task("hoarding.pass_slowly") for _ in range(50)]
    start_worker("hoarding:app", worker={"pool": "threads", "prefetch": 100})
    results[0].get(timeout=30)
    began = time.monotonic()
    for result in results:
        result.get(timeout=30)
    assert time.monotonic() - began < 10
