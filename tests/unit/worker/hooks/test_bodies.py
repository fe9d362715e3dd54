"""What the body of a task raises, and what of that has to pass."""

from __future__ import annotations

import asyncio
import inspect
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from billiard import common as billiard_common
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry, WorkerShutdown, WorkerTerminate

from celeriac.exceptions import TaskExitError
from celeriac.hooks import bodies


def a_task(raised: BaseException, *, called_directly: bool = False) -> Any:
    def run() -> None:
        raise raised

    return SimpleNamespace(run=run, request=SimpleNamespace(called_directly=called_directly))


class UnshowableExit(SystemExit):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (SystemExit(0), "the task raised SystemExit: 0"),
        (SystemExit(), "the task raised SystemExit"),
        (KeyboardInterrupt(), "the task raised KeyboardInterrupt"),
        (GeneratorExit(), "the task raised GeneratorExit"),
        (asyncio.CancelledError("too long"), "the task raised CancelledError: too long"),
        (MemoryError("none left"), "the task raised MemoryError: none left"),
        (UnshowableExit(), "the task raised UnshowableExit"),
    ],
    ids=lambda it: it if isinstance(it, str) else type(it).__name__,
)
def test_what_would_end_more_than_the_task_is_its_failure(raised: BaseException, text: str) -> None:
    with pytest.raises(TaskExitError) as failure:
        bodies.contained(a_task(raised))()
    assert str(failure.value) == text
    assert failure.value.__cause__ is raised


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_caller_of_the_task_as_a_function_gets_the_original(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as failure:
        bodies.contained(a_task(raised, called_directly=True))()
    assert failure.value is raised


class GreenletExit(BaseException): ...


class Timeout(BaseException): ...


@pytest.mark.parametrize(
    "raised",
    [WorkerShutdown(0), WorkerTerminate(1), GreenletExit(), Timeout(), ValueError(), Ignore(), Reject(), Retry()],
    ids=repr,
)
def test_what_ends_a_run_or_is_a_failure_already_passes(raised: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, kind in (("greenlet", GreenletExit), ("gevent", Timeout)):
        green = ModuleType(module)
        setattr(green, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, module, green)
    with pytest.raises(type(raised)) as failure:
        bodies.contained(a_task(raised))()
    assert failure.value is raised


def test_a_child_that_is_told_to_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billiard_common, "_should_have_exited", [True])
    with pytest.raises(SystemExit):
        bodies.contained(a_task(SystemExit(1)))()


def test_a_task_keeps_its_signature_and_a_coroutine_function_is_left_alone() -> None:
    app = Celery("contained", set_as_current=False)

    @app.task(bind=True)
    def plain(self: Any, x: int, *, y: str = "") -> str:
        return f"{x}{y}"

    @app.task
    async def awaited() -> None: ...

    before = app.tasks[awaited.name].run
    bodies.install(app)
    task = app.tasks[plain.name]
    assert str(inspect.signature(task.run)) == "(x: 'int', *, y: 'str' = '') -> 'str'"
    assert task(1, y="2") == "12"
    assert app.tasks[awaited.name].run is before
