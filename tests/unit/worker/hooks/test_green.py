"""Messages wait in front of a green pool that is full, and begin in their order."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.hooks import green


class Pool:
    """Celery's view of a green pool: `free` slots, and tasks that run until they are ended."""

    is_green = True

    def __init__(self, size: int, count: str = "free_count") -> None:
        self.size = size
        self.running: list[str] = []
        self._pool = SimpleNamespace(**{count: lambda: self.size - len(self.running)})
        self.links: list[Callable[..., object]] = []

    def begin(self, name: str) -> None:
        assert len(self.running) < self.size, "spawn would block"
        self.running.append(name)
        self._add_to_pool_map(1, SimpleNamespace(link=self.links.append))

    def _add_to_pool_map(self, pid: int, thread: Any) -> None: ...

    def grow(self, n: int = 1) -> None:
        self.size += n

    def spawn_n(self, function: Callable[[], object]) -> None:
        function()

    def end(self, name: str) -> None:
        self.running.remove(name)
        self.links.pop()(None)


def install(pool: Any) -> Any:
    """A consumer whose messages go to this pool."""
    controller = SimpleNamespace(_process_task=pool.begin, semaphore=None)
    consumer = SimpleNamespace(pool=pool, controller=controller)
    assert green.install(consumer) is True
    return consumer


@pytest.mark.parametrize("count", ["free_count", "free"])
def test_a_message_waits_until_a_slot_is_free_and_keeps_its_place(count: str) -> None:
    pool = Pool(2, count)
    consumer = install(pool)
    for name in "abcd":
        consumer.on_task_request(name)
    assert pool.running == ["a", "b"]
    pool.end("b")
    consumer.on_task_request("e")
    assert pool.running == ["a", "c"]
    pool.end("a")
    pool.end("c")
    assert pool.running == ["d", "e"]


def test_what_was_cleared_does_not_begin_and_slots_that_are_busy_stay_so() -> None:
    pool = Pool(1)
    consumer = install(pool)
    for name in "ab":
        consumer.on_task_request(name)
    consumer.controller.semaphore.clear()  # a lost connection, a drain
    consumer.on_task_request("c")
    assert pool.running == ["a"]
    pool.end("a")
    assert pool.running == ["c"]


def test_those_who_wait_begin_when_the_pool_grows() -> None:
    pool = Pool(1)
    consumer = install(pool)
    for name in "abc":
        consumer.on_task_request(name)
    pool.grow(2)
    assert pool.running == ["a", "b", "c"]


def test_a_revoked_message_and_one_that_cannot_begin_leave_the_slot_to_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool(1)
    slots = green.Slots(pool, pool.spawn_n)
    pool.begin("first")

    def broken() -> None:
        raise RuntimeError("broken")

    slots.acquire(slots.release)  # Celery's way with a message that was revoked
    slots.acquire(broken)
    slots.acquire(pool.begin, "last")
    pool.running.clear()
    slots.note_end()
    assert pool.running == ["last"]
    assert "a task could not begin" in caplog.text


def test_before_its_pool_has_started_nothing_begins() -> None:
    pool = Pool(1)
    pool._pool = None  # type: ignore[assignment]  # as Celery's before its start
    consumer = install(pool)
    consumer.on_task_request("a")
    assert pool.running == []


def test_other_pools_are_left_alone() -> None:
    consumer = SimpleNamespace(pool=SimpleNamespace(), controller=SimpleNamespace())
    assert green.install(consumer) is False
    assert vars(consumer.controller) == {}
