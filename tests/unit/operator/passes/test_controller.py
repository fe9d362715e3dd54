from __future__ import annotations

import asyncio
import logging

import pytest

from celeriac_operator.exceptions import ApiError
from celeriac_operator.memory.caches import Key
from celeriac_operator.metrics import Metrics
from celeriac_operator.passes.controller import Controller
from celeriac_operator.passes.reconcile import Result
from celeriac_operator.workqueue import Backoff, WorkQueue

EMAILS = Key("shop", "emails")


class Passes:
    """Stands in for the reconciler: answers in order, and notes what it was asked."""

    def __init__(self, *answers: Result | Exception) -> None:
        self.answers = list(answers)
        self.keys: list[Key] = []
        self.over = asyncio.Event()

    async def __call__(self, key: Key) -> Result:
        self.keys.append(key)
        answer = self.answers.pop(0)
        if not self.answers:
            self.over.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def build(passes: Passes) -> tuple[Controller, WorkQueue[Key], Metrics, Clock]:
    clock, metrics = Clock(), Metrics()
    queue: WorkQueue[Key] = WorkQueue(Backoff(base_seconds=10, max_seconds=100), clock=clock, jitter=lambda: 0)
    return Controller(queue, passes, metrics, workers=2), queue, metrics, clock


def count(metrics: Metrics, result: str) -> float | None:
    return metrics.registry.get_sample_value("celeriac_operator_reconciles_total", {"result": result})


@pytest.mark.parametrize(
    ("answer", "result", "delay"),
    [
        pytest.param(Result(), "done", None, id="done: not again"),
        pytest.param(Result(again_seconds=3), "done", 3, id="done, with a wish to look again"),
        pytest.param(Result(refused=True), "refused", 10, id="refused: again after a pause"),
        pytest.param(ApiError(500, "InternalError", "no"), "error", 10, id="an error of the API: again after a pause"),
        pytest.param(KeyError("bug"), "error", 10, id="a bug: again after a pause"),
    ],
)
async def test_after_a_pass(answer: Result | Exception, result: str, delay: float | None) -> None:
    passes = Passes(answer, Result())
    controller, queue, metrics, clock = build(passes)
    queue.add(EMAILS)
    await controller.run_once()
    assert count(metrics, result) == 1
    assert queue.depth() == 0
    clock.now = 1000.0
    if delay is None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(controller.run_once(), 0.01)
    else:
        await controller.run_once()
        assert passes.keys == [EMAILS, EMAILS]


async def test_a_conflict_is_nothing_to_tell_a_person(caplog: pytest.LogCaptureFixture) -> None:
    controller, queue, _, _ = build(Passes(ApiError(409, "Conflict", "changed"), ApiError(500, "x", "broken")))
    caplog.set_level(logging.INFO, "celeriac_operator")
    queue.add(EMAILS)
    await controller.run_once()
    assert caplog.records == []
    queue.add(EMAILS)
    await controller.run_once()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_one_pool_that_trips_over_a_bug_does_not_stop_the_others() -> None:
    passes = Passes(ZeroDivisionError(), Result())
    controller, queue, _, _ = build(passes)
    running = asyncio.create_task(controller.run())
    queue.add(EMAILS)
    queue.add(Key("shop", "other"))
    await passes.over.wait()
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert set(passes.keys) == {EMAILS, Key("shop", "other")}
