"""A loop that has more timers due than it fires in a turn does not sleep."""

from __future__ import annotations

import pytest
from kombu.asynchronous import Hub

from celeriac.hooks.event_loop import timers


@pytest.fixture
def hub() -> Hub:
    made = Hub()
    timers.stay_awake(made)
    return made


def test_no_timer_waits_for_a_sleep_once_it_is_due(hub: Hub) -> None:
    fired: list[int] = []
    for number in range(35):
        hub.timer.call_after(0, fired.append, (number,))
    sleeps = [hub.fire_timers(propagate=()) for _ in range(4)]
    assert sleeps == [0, 0, 0, 1]
    assert sorted(fired) == list(range(35))


def test_the_sleep_ends_with_the_next_timer(hub: Hub) -> None:
    for seconds in (0, 1.5):
        hub.timer.call_after(seconds, list)
    assert 0.2 < hub.fire_timers(propagate=()) <= 1.5


def test_a_loop_is_changed_once_for_all_its_connections(hub: Hub) -> None:
    fire = hub.fire_timers
    timers.stay_awake(hub)
    assert hub.fire_timers is fire
