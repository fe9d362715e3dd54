from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from celeriac_operator.workqueue import Backoff, Schedule, WorkQueue


def a_schedule(jitter: float = 0) -> Schedule[str]:
    return Schedule(Backoff(base_seconds=1, max_seconds=10), lambda: jitter)


def test_keys_come_out_in_the_order_of_arrival() -> None:
    schedule = a_schedule()
    for key in "bac":
        schedule.add(key, 0)
    assert [schedule.take(0) for _ in range(4)] == ["b", "a", "c", None]


def test_many_additions_before_it_is_taken_are_one() -> None:
    schedule = a_schedule()
    for now in range(5):
        schedule.add("a", now)
    assert (schedule.depth(), schedule.oldest_seconds(9)) == (1, 9)


def test_a_key_that_is_added_while_it_is_out_comes_back_when_it_is_done() -> None:
    schedule = a_schedule()
    schedule.add("a", 0)
    schedule.take(0)
    schedule.add("a", 1)
    assert schedule.take(1) is None
    schedule.done("a")
    assert schedule.take(1) == "a"


def test_a_failed_key_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    schedule = a_schedule()
    assert [schedule.retry("a", 0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_a_success_makes_the_next_failure_the_first() -> None:
    schedule = a_schedule()
    schedule.retry("a", 0)
    schedule.retry("a", 0)
    schedule.forget("a")
    assert schedule.retry("a", 0) == 1


def test_jitter_takes_off_up_to_half() -> None:
    assert a_schedule(jitter=1).retry("a", 0) == 0.5


def test_very_many_failures_do_not_overflow() -> None:
    assert Backoff().seconds(100_000, 0) == Backoff().max_seconds


def test_a_delayed_key_is_ready_then_and_not_before() -> None:
    schedule = a_schedule()
    schedule.add_after("a", 5, 0)
    assert (schedule.take(4.9), schedule.seconds_to_next(4)) == (None, 1)
    assert schedule.take(5) == "a"


def test_of_several_delays_the_earliest_holds() -> None:
    schedule = a_schedule()
    for seconds in (9, 3, 6):
        schedule.add_after("a", seconds, 0)
    assert schedule.take(3) == "a"
    schedule.done("a")
    assert schedule.seconds_to_next(3) is None


def test_a_key_that_is_taken_sooner_does_not_come_again_for_its_delay() -> None:
    schedule = a_schedule()
    schedule.add_after("a", 5, 0)
    schedule.add("a", 1)
    assert schedule.take(1) == "a"
    schedule.done("a")
    assert schedule.take(100) is None


def test_a_delay_that_ends_while_the_key_is_out_brings_it_back() -> None:
    schedule = a_schedule()
    schedule.add("a", 0)
    schedule.take(0)
    schedule.add_after("a", 5, 0)
    assert schedule.take(6) is None
    schedule.done("a")
    assert schedule.take(6) == "a"


KEYS = st.sampled_from("abcd")


class Promise(RuleBasedStateMachine):
    """Against a model: which keys somebody still has to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = a_schedule()
        self.now = 0.0
        self.owed: set[str] = set()
        self.out: list[str] = []
        self.due: dict[str, float] = {}

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.schedule.add(key, self.now)
        self.owed.add(key)

    @rule(key=KEYS, seconds=st.integers(0, 20))
    def add_after(self, key: str, seconds: int) -> None:
        self.schedule.add_after(key, seconds, self.now)
        self.due[key] = min(self.due.get(key, float("inf")), self.now + seconds)

    @rule(seconds=st.integers(0, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        self.owed |= {key for key, due in self.due.items() if due <= self.now}
        self.due = {key: due for key, due in self.due.items() if due > self.now}
        key = self.schedule.take(self.now)
        ready = self.owed - set(self.out)
        assert (key is None) == (not ready)
        if key is not None:
            assert key in ready
            self.owed.discard(key)
            self.due.pop(key, None)
            self.out.append(key)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.out))
        self.out.remove(key)
        self.schedule.done(key)

    @invariant()
    def no_key_is_out_twice(self) -> None:
        assert all(times == 1 for times in Counter(self.out).values())


Promise.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPromise = Promise.TestCase


async def test_a_taker_wakes_up_for_a_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    taker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await taker == "a"


async def test_a_taker_wakes_up_when_a_delay_is_over() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    assert await queue.get() == "a"


async def test_several_takers_get_different_keys() -> None:
    queue: WorkQueue[str] = WorkQueue()
    takers = [asyncio.create_task(queue.get()) for _ in range(3)]
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*takers)) == ["a", "b", "c"]


async def test_a_cancelled_taker_takes_nothing_with_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    taker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    taker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taker
    queue.add("a")
    assert await queue.get() == "a"
