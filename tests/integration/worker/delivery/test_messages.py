"""Every message ends: as a task, a dead letter or a failure that Celery documents; and none ends a worker.

The short form takes a seeded sample of the shapes on every pool. The long form takes all of them:
`make fuzz-messages`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import redis
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.delivery import message_shapes
from tests.integration.worker.delivery.message_shapes import Shape
from tests.integration.worker.processes import RedisServer, WorkerProcess

from celeriac.delivery import dead
from celeriac.delivery.dead import Letter
from celeriac.delivery.values import messages, outcomes, protocol

POOLS = os.environ.get("TEST_POOLS", "prefork threads solo gevent eventlet").split()
SEED = int(os.environ.get("TEST_SEED", "1"))
SAMPLE = int(os.environ.get("TEST_SHAPES", "250"))
"""Shapes of one run; more than there are: all."""
META: Final = "celery-task-meta-"
NEVER_LOGGED = re.compile(r"Unrecoverable|Connection to broker lost|cannot renew")


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    # Thousands of large messages at once, on a machine that may be busy: longer than redis-py would wait.
    with redis.Redis.from_url(redis_server.url, socket_timeout=60) as it:
        yield it


@dataclass
class Fates:
    """What has become of messages by now."""

    dead: dict[bytes, Letter] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Results by the ids of tasks."""
    held: set[bytes] = field(default_factory=set)

    @classmethod
    def read(cls, client: Any, worker: WorkerProcess) -> Fates:
        notes = worker.directory / "notes"
        keys = [key.decode() for key in client.scan_iter(f"{META}*", count=1000)]
        results = client.mget(keys) if keys else []
        return cls(
            dead={normal(it.dead.message): it for it in dead.DeadLetters(client).read()},
            ran=set(notes.read_text().splitlines()) if notes.exists() else set(),
            ended={key.removeprefix(META): json.loads(it) for key, it in zip(keys, results, strict=True) if it},
            held={normal(messages.split(it)[1]) for it in client.hvals("celeriac:held:{celery}")},
        )

    def of(self, shape: Shape) -> str | None:
        """One word for what has become of a message; `None` where nobody knows."""
        if normal(shape.raw) in self.dead:
            return "dead"
        if shape.line in self.ended:
            return str(self.ended[str(shape.line)]["status"])
        if shape.line in self.ran or messages.task_of(messages.read(shape.raw))[1] in self.ended:
            return "ran"
        return "held" if normal(shape.raw) in self.held else None


def normal(raw: bytes) -> bytes:
    """A message without what a worker writes into one that it gives back."""
    payload = messages.read(raw)
    if payload is None:
        return raw
    properties = {name: it for name, it in payload["properties"].items() if name not in {"celeriac", "delivery_info"}}
    return json.dumps({**payload, "properties": properties}, sort_keys=True).encode()


@pytest.mark.timeout(3600 if SAMPLE > 1000 else 180)
@pytest.mark.parametrize("pool", POOLS)
def test_every_message_ends_and_none_ends_the_worker(start_worker: StartWorker, client: Any, pool: str) -> None:
    chance = random.Random(f"{SEED}{pool}")  # noqa: S311 - the same shapes in each run
    shapes = message_shapes.everything(chance)
    shapes = chance.sample(shapes, min(SAMPLE, len(shapes)))
    with client.pipeline() as pipeline:
        for number, shape in enumerate(shapes):
            pipeline.lpush("celery", shape.raw)
            pipeline.lpush("celery", good_message(number))
        pipeline.execute()
    worker = start_worker(
        "received:app",
        environment={"C_FORCE_ROOT": "1"},  # pickle is accepted, and tests run as root
        worker={"pool": pool, "concurrency": 1 if pool == "solo" else 4},
        delivery={"leaseSeconds": 20, "maxDeliveries": 1},  # long enough for a busy machine
    )
    far = sum("far time" in it.name for it in shapes)
    worker.until(
        lambda: (client.llen("celery"), client.hlen("celeriac:held:{celery}")),
        lambda it: it[0] == 0 and it[1] <= far,
        timeout=3000 if SAMPLE > 1000 else 120,
        what="all were taken and have ended",
    )
    good = [Shape("good", good_message(number), f"good-{number}") for number in range(len(shapes))]
    assert not unknown_fates(client, worker, shapes)
    fates = Fates.read(client, worker)
    assert {fates.of(it) for it in good} == {"SUCCESS"}
    assert all(it.dead.why for it in fates.dead.values())
    own = {it.line for it in shapes}  # not an id that several messages have
    told = {it.dead.id: it.dead.why for it in fates.dead.values() if it.dead.id in own and is_told(it)}
    worker.until(lambda: without_failure(client, worker, told), lambda it: not it, timeout=20, what="callers are told")
    assert not NEVER_LOGGED.search(worker.logs())
    worker.terminate()
    assert worker.wait() == 0


def good_message(number: int) -> bytes:
    return message_shapes.written(message_shapes.call(f"good-{number}"))


def unknown_fates(client: Any, worker: WorkerProcess, shapes: list[Shape]) -> list[str]:
    """Names of the shapes of which nobody knows what has become, once that does not change any more."""

    def read() -> list[str]:
        fates = Fates.read(client, worker)
        return [it.name for it in shapes if fates.of(it) is None]

    with contextlib.suppress(AssertionError):
        worker.until(read, lambda it: not it, timeout=10)
    return read()


def without_failure(client: Any, worker: WorkerProcess, told: dict[str, str]) -> dict[str, str]:
    """Which of these ids of dead-lettered tasks have no failure as their result."""
    ended = Fates.read(client, worker).ended
    return {it: why for it, why in told.items() if ended.get(it, {}).get("status") != "FAILURE"}


def is_told(letter: Letter) -> bool:
    """Whether the caller of a dead letter can be told: the message says whose result it is, and that it has one."""
    payload = letter.dead.payload()
    headers = (payload or {}).get("headers") or {}
    return all(map(protocol.is_name, messages.task_of(payload))) and not headers.get("ignore_result")


@pytest.mark.timeout(180)  # three workers, one after the other
def test_a_message_that_ends_its_worker_all_the_same_is_counted_alone_and_dead_in_the_end(
    start_worker: StartWorker, client: Any
) -> None:
    """The worker is started again as Kubernetes does; what was fetched beside that message runs, and is not counted."""
    good = 8
    for number in range(good):
        client.lpush("celery", good_message(number))
        if number == good // 2:
            client.lpush("celery", message_shapes.written(message_shapes.call("deadly", task="received.end")))
    options: dict[str, Any] = {
        "worker": {"pool": "solo", "prefetch": 0},
        "delivery": {"leaseSeconds": 300, "maxDeliveries": 2},
    }
    for _ in range(2):
        worker = start_worker("received:app", environment={"C_FORCE_ROOT": "1"}, **options)
        assert worker.wait() == 1
        waiting = [json.loads(it) for it in client.lrange("celery", 0, -1)]
        counts = {it["headers"]["id"]: outcomes.deliveries(it) for it in waiting}
        assert {it: count for it, count in counts.items() if it != "deadly"} == dict.fromkeys(
            counts.keys() - {"deadly"}, 0
        )
        assert counts["deadly"] > 0
    last = start_worker("received:app", environment={"C_FORCE_ROOT": "1"}, **options)
    last.until(lambda: client.llen("celery") == client.hlen("celeriac:held:{celery}") == 0)
    [letter] = dead.DeadLetters(client).read()
    assert "delivered 2 times" in letter.dead.why
    assert "it ended its worker: SystemExit('the end')" in letter.dead.why
