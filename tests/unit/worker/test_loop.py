"""A loop starts and stops safely however it is called, outlives errors, and leaves no thread behind."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from celeriac import loop
from celeriac.loop import Loop


class Rounds:
    """Counts rounds, and fails in those that it is told to."""

    def __init__(self, *fails: int) -> None:
        self.count = 0
        self.fails = fails
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        if self.count in self.fails:
            raise ValueError(f"round {self.count}")

    def until(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, timeout=30)


@pytest.fixture
def new_loop() -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def new(rounds: Rounds, seconds: float | Callable[[], float] = 0.001, *, begins_at_once: bool = False) -> Loop:
        made.append(Loop(rounds, name="test", seconds=seconds, begins_at_once=begins_at_once))
        return made[-1]

    yield new
    for it in made:
        assert it.stop(30)
        assert not it.is_running


CALLS = (
    pytest.param(Loop.start, id="start"),
    pytest.param(Loop.stop, id="stop"),
    pytest.param(lambda it: it.stop(30), id="stop and wait"),
    pytest.param(lambda _: loop.stop_all(), id="stop all"),
)


@pytest.mark.parametrize("first", CALLS)
def test_calls_in_any_order_are_safe(first: Callable[[Loop], object], new_loop: Callable[..., Loop]) -> None:
    for others in itertools.product([it.values[0] for it in CALLS], repeat=2):
        rounds = Rounds()
        it = new_loop(rounds)
        for call in (first, *others):
            call(it)
        it.start()
        assert it.is_running
        assert rounds.until(rounds.count + 1)


def test_a_second_start_makes_no_second_thread(new_loop: Callable[..., Loop]) -> None:
    it = new_loop(Rounds(), 60)
    for _ in range(3):
        it.start()
    assert [thread.name for thread in threading.enumerate()].count("celeriac-test") == 1


def test_a_round_that_fails_is_said_once_and_the_next_one_comes(
    new_loop: Callable[..., Loop], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="celeriac.loop")
    rounds = Rounds(1, 2)
    new_loop(rounds).start()
    assert rounds.until(4)
    assert [record.getMessage() for record in caplog.records] == [
        "test: ValueError('round 1'); trying again",
        "test: works again",
    ]


def test_the_first_round_may_come_before_the_first_pause(new_loop: Callable[..., Loop]) -> None:
    rounds = Rounds()
    new_loop(rounds, 3600, begins_at_once=True).start()
    assert rounds.until(1)


def test_a_pause_may_change_from_round_to_round(new_loop: Callable[..., Loop]) -> None:
    rounds, asked = Rounds(), []

    def seconds() -> float:
        asked.append(rounds.count)
        return 0.0

    it = new_loop(rounds, seconds)
    it.start()
    assert rounds.until(2)
    assert it.stop(30)
    assert asked[:2] == [0, 1]


def test_a_loop_may_stop_itself(new_loop: Callable[..., Loop]) -> None:
    rounds = Rounds()
    it = new_loop(rounds)
    it.run_once = lambda: (it.stop(30), rounds())  # type: ignore[assignment]
    it.start()
    assert rounds.until(1)


def test_those_that_do_not_end_in_time_are_named(new_loop: Callable[..., Loop]) -> None:
    begun, may_end = threading.Event(), threading.Event()
    it = new_loop(Rounds())
    it.run_once = lambda: (begun.set(), may_end.wait(30))  # type: ignore[assignment]
    it.start()
    assert begun.wait(30)
    assert loop.stop_all(0.001) == ["test"]
    may_end.set()
