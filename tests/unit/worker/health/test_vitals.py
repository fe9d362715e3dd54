from __future__ import annotations

from types import SimpleNamespace

import pytest

from celeriac.health import vitals as module
from celeriac.health.vitals import Vitals


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    return Vitals(stalled_seconds=60, drain_timeout_seconds=300, clock=clock)


def test_a_worker_that_is_not_built_yet_has_no_slots(vitals: Vitals, clock: Clock) -> None:
    clock.now += 5
    seen = vitals.observe()
    assert (seen.uptime_seconds, seen.slots, seen.consuming, seen.ticked_seconds) == (5, None, False, None)


def test_ticks_grow_old(vitals: Vitals, clock: Clock) -> None:
    vitals.loop_entered()
    clock.now += 7
    assert vitals.observe().ticked_seconds == 7
    vitals.tick()
    assert vitals.observe().ticked_seconds == 0


def test_an_outage_is_counted_once_and_its_attempts_each(vitals: Vitals, clock: Clock) -> None:
    vitals.loop_entered()
    for _ in range(3):
        vitals.broker_failed()
        clock.now += 2
    seen = vitals.observe()
    assert (seen.consuming, seen.broker_away_seconds, seen.broker_attempts, seen.broker_losses) == (False, 6, 3, 1)
    vitals.broker_connected()
    vitals.loop_entered()
    seen = vitals.observe()
    assert (seen.consuming, seen.broker_away_seconds, seen.broker_attempts, seen.broker_losses) == (True, None, 0, 1)


def test_another_connection_that_fails_does_not_stop_a_consumer_that_consumes(vitals: Vitals) -> None:
    vitals.loop_entered()
    vitals.attempt_failed()
    seen = vitals.observe()
    assert (seen.consuming, seen.broker_away_seconds, seen.broker_losses) == (True, None, 0)
    vitals.broker_failed()
    vitals.attempt_failed()
    seen = vitals.observe()
    assert (seen.consuming, seen.broker_attempts, seen.broker_losses) == (False, 2, 1)


def test_a_drain_begins_once(vitals: Vitals, clock: Clock) -> None:
    vitals.drain_begun()
    clock.now += 9
    vitals.drain_begun()
    assert vitals.observe().draining_seconds == 9


@pytest.mark.parametrize("gone", ["Z", "X", "T"], ids=["a zombie", "gone", "stopped"])
def test_processes_that_are_gone_or_stopped_are_missed_from_the_moment_they_were_last_seen(
    gone: str, vitals: Vitals, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = SimpleNamespace(_pool=SimpleNamespace(_pool=[SimpleNamespace(pid=11), SimpleNamespace(pid=12)]))
    vitals.worker = SimpleNamespace(pool=pool, concurrency=2)
    states = {11: "Z", 12: "S"}
    monkeypatch.setattr(module, "process_state", states.__getitem__)
    assert vitals.observe().processes == 1
    states[12] = gone
    clock.now += 8
    seen = vitals.observe()
    assert (seen.processes, seen.processes_gone_seconds) == (0, 8)


@pytest.mark.parametrize("wall", [1_000_000.0, 1_003_600.0, 900_000.0], ids=["right", "an hour ahead", "far behind"])
def test_a_step_of_the_nodes_clock_makes_no_task_older(wall: float) -> None:
    request = SimpleNamespace(time_start=999_990.0, accepted_at=50.0)
    assert module.running_seconds(request, now=60.0, wall=wall) == 10


def test_a_request_of_which_only_the_time_of_day_is_known_is_as_old_as_that_says() -> None:
    request = SimpleNamespace(time_start=999_990.0)
    assert module.running_seconds(request, now=60.0, wall=1_000_000.0) == 10


def test_a_pool_without_processes_of_its_own_misses_none(vitals: Vitals) -> None:
    vitals.worker = SimpleNamespace(pool=SimpleNamespace(num_processes=8), concurrency=8)
    seen = vitals.observe()
    assert (seen.slots, seen.processes, seen.processes_gone_seconds) == (8, None, None)


@pytest.mark.parametrize(
    ("message", "task", "default", "limit"),
    [
        pytest.param((5, 3), 7, 9, 5, id="the message's own"),
        pytest.param((None, None), 7, 9, 7, id="else the task's"),
        pytest.param(None, None, 9, 9, id="else the worker's"),
        pytest.param((None, 3), None, None, None, id="else none"),
    ],
)
def test_the_hard_limit_that_holds(
    message: tuple[float | None, float | None] | None, task: float | None, default: float | None, limit: float | None
) -> None:
    request = SimpleNamespace(time_limits=message, task=SimpleNamespace(time_limit=task))
    assert module.hard_limit_seconds(request, default) == limit
