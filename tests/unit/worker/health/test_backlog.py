from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.health.backlog import BacklogWatch, has_looked, has_room
from celeriac.health.vitals import Vitals


class NotThereError(Exception):
    pass


class FakeBroker:
    """A connection that counts messages; a queue that is not in it is not in the broker."""

    channel_errors = (NotThereError,)

    def __init__(self, **queues: int) -> None:
        self.queues = queues
        self.asked = 0
        self.is_away = False

    @property
    def default_channel(self) -> FakeBroker:
        return self

    def queue_declare(self, queue: str, *, passive: bool) -> Any:
        assert passive
        self.asked += 1
        if self.is_away:
            raise OSError("away")
        if queue not in self.queues:
            raise NotThereError
        return SimpleNamespace(message_count=self.queues[queue])

    def close(self) -> None:
        pass


class Bench:
    """A watch over a worker that could take messages, at a time of its own."""

    def __init__(self, broker: FakeBroker) -> None:
        self.now = 0.0
        self.broker = broker
        self.qos = SimpleNamespace(_delivered={}, _dirty=set(), prefetch_count=2)
        self.vitals = Vitals(stalled_seconds=60, drain_timeout_seconds=1, clock=lambda: self.now)
        channel = SimpleNamespace(qos=self.qos)
        queues = [SimpleNamespace(name="emails"), SimpleNamespace(name="default")]
        task_consumer = SimpleNamespace(channel=channel, queues=queues)
        pool = SimpleNamespace(num_processes=2)
        self.vitals.worker = SimpleNamespace(pool=pool, consumer=SimpleNamespace(task_consumer=task_consumer))
        self.vitals.loop_entered()
        self.watch = BacklogWatch(SimpleNamespace(connection_for_read=lambda: broker), self.vitals)

    def ignored_seconds(self) -> float | None:
        return self.vitals.observe().ignored_messages_seconds


def test_messages_that_wait_are_noted_from_the_first_look_on() -> None:
    bench = Bench(FakeBroker(default=3))
    assert bench.watch.run_once() == 3
    bench.now = 40
    bench.watch.run_once()
    assert bench.ignored_seconds() == 40


def test_a_message_taken_ends_the_suspicion() -> None:
    bench = Bench(FakeBroker(default=3))
    bench.watch.run_once()
    bench.vitals.take()
    assert bench.ignored_seconds() is None


def test_empty_queues_are_no_reason() -> None:
    bench = Bench(FakeBroker(emails=0))
    assert bench.watch.run_once() == 0
    assert bench.ignored_seconds() is None


def test_a_broker_that_does_not_answer_is_no_evidence_and_is_asked_anew() -> None:
    bench = Bench(FakeBroker(default=1))
    bench.watch.run_once()
    bench.broker.is_away = True
    with pytest.raises(OSError, match="away"):
        bench.watch.run_once()
    assert bench.ignored_seconds() is None
    bench.broker.is_away = False
    assert bench.watch.run_once() == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda bench: bench.vitals.broker_failed(), id="without a broker"),
        pytest.param(lambda bench: bench.vitals.drain_begun(), id="that leaves"),
        pytest.param(lambda bench: bench.qos._delivered.update(a=1, b=2), id="whose window is full"),
        pytest.param(lambda bench: setattr(bench.vitals, "worker", None), id="that is not built yet"),
    ],
)
def test_the_broker_is_not_even_asked_for_a_worker(change: Any) -> None:
    bench = Bench(FakeBroker(default=1))
    change(bench)
    assert bench.watch.run_once() == 0
    assert bench.broker.asked == 0


@pytest.mark.parametrize(
    ("delivered", "dirty", "limit", "room"),
    [(2, 0, 2, False), (2, 1, 2, True), (9, 0, 0, True)],
    ids=["as many as may be held", "one of them acknowledged", "no limit"],
)
def test_room_in_the_window(delivered: int, dirty: int, limit: int, room: bool) -> None:
    qos = SimpleNamespace(_delivered=range(delivered), _dirty=range(dirty), prefetch_count=limit)
    assert has_room(SimpleNamespace(qos=qos)) is room


def test_a_broker_that_pushes_has_no_window_to_look_at() -> None:
    assert not has_room(SimpleNamespace(qos=None))
    assert not has_room(None)


def test_a_broker_whose_queues_the_transport_has_just_seen_empty_is_not_asked() -> None:
    pace = SimpleNamespace(empty_at=100.0)
    assert has_looked(SimpleNamespace(pace=pace), 101)
    assert not has_looked(SimpleNamespace(pace=pace), 200), "it has not looked for long"
    assert not has_looked(SimpleNamespace(pace=SimpleNamespace(empty_at=None)), 101), "it has never looked"
    assert not has_looked(SimpleNamespace(), 101), "kombu's own"
