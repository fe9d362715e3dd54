"""Waiting asks until it is so, and says what it saw last when time is up."""

from __future__ import annotations

import pytest

from demo import waiting


class Clock:
    """Virtual time: sleeping moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_first_good_state_is_returned_without_waiting_on():
    clock, states = Clock(), iter([1, 2, 3, 4])
    found = waiting.until(
        "three", lambda: next(states), lambda n: n == 3, seconds=10, every=1, clock=lambda: clock.now, sleep=clock.sleep
    )
    assert found == 3
    assert clock.now == 2


def test_a_state_that_is_good_at_the_deadline_still_counts():
    clock = Clock()
    found = waiting.until(
        "it", lambda: clock.now, lambda now: now >= 5, seconds=5, every=2, clock=lambda: clock.now, sleep=clock.sleep
    )
    assert found == 5


def test_a_time_out_names_what_was_waited_for_and_the_last_state():
    clock = Clock()
    with pytest.raises(waiting.TimedOutError, match="waited 5 s until the kettle boils; last seen: lukewarm"):
        waiting.until(
            "the kettle boils",
            lambda: "lukewarm",
            lambda state: state == "boiling",
            seconds=5,
            clock=lambda: clock.now,
            sleep=clock.sleep,
        )


def test_an_error_of_the_reader_is_passed_on():
    def read() -> int:
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        waiting.until("it", read, bool, seconds=5)
