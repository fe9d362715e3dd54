"""The threads of a pool are spared what the loop can do, and every end is booked once."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.solo import TaskPool as Solo
from celery.concurrency.thread import TaskPool as Threads

from celeriac.hooks import requests, threads
from celeriac.hooks.threads import Endings


class Loop:
    """As much of kombu's event loop as is needed: one reader, and a turn when it is asked for."""

    def __init__(self) -> None:
        self.reader: tuple[int, Callable[..., Any]] | None = None

    def add_reader(self, fd: int, callback: Callable[..., Any]) -> None:
        self.reader = fd, callback

    def is_woken(self) -> bool:
        assert self.reader is not None
        return bool(select.select([self.reader[0]], [], [], 0)[0])

    def turn(self) -> None:
        assert self.reader is not None
        if self.is_woken():
            self.reader[1]()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def endings(loop: Loop) -> Endings:
    it = Endings()
    it.follow(loop)
    return it


def book_in_thread(endings: Endings, booking: Callable[[], object]) -> None:
    thread = threading.Thread(target=endings.book, args=(booking,))
    thread.start()
    thread.join()


def test_ends_are_booked_in_the_loops_next_turn_in_their_order_with_one_wake_up(endings: Endings, loop: Loop) -> None:
    done: list[tuple[int, int]] = []
    for n in range(3):
        book_in_thread(endings, lambda n=n: done.append((n, threading.get_ident())))  # type: ignore[misc]
    assert done == []
    loop.turn()
    assert done == [(n, threading.get_ident()) for n in range(3)]
    assert not loop.is_woken()
    book_in_thread(endings, lambda: None)
    assert loop.is_woken()


def test_before_the_first_connection_an_end_is_booked_in_its_thread() -> None:
    done: list[int] = []
    Endings().book(lambda: done.append(1))
    assert done == [1]


def test_while_the_loop_pauses_each_end_is_booked_once_and_at_once(endings: Endings, loop: Loop) -> None:
    done: list[str] = []
    book_in_thread(endings, lambda: done.append("before"))
    endings.pause()
    assert done == ["before"]
    book_in_thread(endings, lambda: done.append("after"))
    assert done == ["before", "after"]
    loop.turn()
    endings.pause()
    assert done == ["before", "after"]


def test_with_the_next_connection_ends_are_left_to_the_loop_again(endings: Endings) -> None:
    done: list[int] = []
    endings.pause()
    again = Loop()
    endings.follow(again)
    book_in_thread(endings, lambda: done.append(1))
    assert done == []
    again.turn()
    assert done == [1]


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(1)])
def test_one_that_cannot_be_booked_keeps_no_other_from_it(
    error: BaseException, endings: Endings, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []

    def fails() -> None:
        raise error

    for booking in (fails, lambda: done.append(1)):
        book_in_thread(endings, booking)
    loop.turn()
    assert done == [1]
    assert "the end of a task could not be recorded" in caplog.text


class Request(requests.RequestHooks):  # type: ignore[misc]
    def __init__(self) -> None:
        self.said: list[Any] = []
        self.listeners = requests.Listeners(run_ended=(lambda _: self.said.append("has ended"),))
        self.message = SimpleNamespace(payload=((1,), {}, {}))

    def settle(self, outcome: Any) -> None:
        self.said.append(outcome)


def run(pool: Any, request: Request, *, content_type: str | None) -> None:
    """Hand a task to a pool as Celery's request does."""

    def trace(*arguments: Any) -> Any:
        return arguments

    pool.apply_async(
        trace,
        args=("a", "1", {}, "[[1], {}, {}]", content_type, "utf-8"),
        accept_callback=lambda *_: None,
        callback=request.settle,
        correlation_id="1",
    )
    if isinstance(pool, Threads):
        pool.executor.shutdown()


def test_a_thread_notes_the_end_before_it_is_booked(endings: Endings, loop: Loop) -> None:
    pool, request = Threads(limit=1), Request()
    threads.spare(pool, endings)
    run(pool, request, content_type="application/json")
    assert request.said == ["has ended"]
    loop.turn()
    assert request.said == ["has ended", ("a", "1", {}, ((1,), {}, {}), None, None)]


def test_arguments_that_were_read_by_celery_stay_as_they_are(endings: Endings, loop: Loop) -> None:
    pool, request = Threads(limit=1), Request()
    threads.spare(pool, endings)
    run(pool, request, content_type=None)
    loop.turn()
    assert request.said[1:] == [("a", "1", {}, "[[1], {}, {}]", None, "utf-8")]


def test_a_pool_that_runs_tasks_in_the_loops_own_thread_is_left_alone(endings: Endings) -> None:
    pool, request = Solo(limit=1), Request()
    assert not threads.spare(pool, endings)
    run(pool, request, content_type="application/json")
    assert request.said == [("a", "1", {}, "[[1], {}, {}]", "application/json", "utf-8")]
