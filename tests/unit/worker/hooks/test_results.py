"""Which failures mean that results cannot be stored at all, and what comes out of a run beside its result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery.exceptions import BackendStoreError, WorkerShutdown

from celeriac.exceptions import TaskExitError
from celeriac.hooks import requests, results


class Request:
    name, id = "shop.order", "1"
    given_back = False

    def __init__(self) -> None:
        self.rejected: list[bool] = []

    def reject(self, requeue: bool) -> None:
        self.rejected.append(requeue)


def info(error: Exception) -> Any:
    try:
        raise error  # noqa: TRY301 - what is being handled is what counts
    except Exception:
        return ExceptionInfo()


@pytest.mark.parametrize(
    ("exc_info", "return_ok", "is_given_up"),
    [
        pytest.param(info(BackendStoreError("away")), False, True, id="storing failed"),
        pytest.param(info(BackendStoreError("too large")), True, False, id="the failure to store it was stored"),
        pytest.param(info(ValueError()), False, False, id="something else came out of a run"),
    ],
)
def test_a_message_goes_back_when_its_result_was_given_up(
    exc_info: Any, return_ok: bool, is_given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results.state, "should_stop", None)
    monkeypatch.setattr(results.state, "task_ready", lambda _: None)
    ended: list[str] = []
    given_up = results.ResultsGivenUp(an_app(), lambda error: ended.append(str(error)), lambda: None)
    request = Request()
    assert given_up.takes_failure(request, exc_info, return_ok) is is_given_up
    assert request.rejected == ([True] if is_given_up else [])
    assert request.given_back is is_given_up
    assert len(ended) == is_given_up


def an_app() -> Any:
    return SimpleNamespace(
        backend=SimpleNamespace(as_uri=lambda: "redis://away/0"), conf=SimpleNamespace(result_backend_max_retries=3)
    )


def a_pool() -> Any:
    """One that runs what it is given at once."""
    pool = SimpleNamespace(apply_async=lambda target, args, **_: target(*args))
    results.guard(pool)
    return pool


def test_what_comes_out_of_a_run_is_its_outcome() -> None:
    assert a_pool().apply_async(lambda it: (0, it, 1.0), (5,)) == (0, 5, 1.0)
    failed, escaped, runtime = a_pool().apply_async(lambda: 1 / 0, ())
    assert (failed, runtime) == (1, 0.0)
    assert isinstance(escaped, requests.Escaped)
    assert isinstance(escaped.exception.exc, ZeroDivisionError)


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt(), MemoryError("none left")], ids=repr)
def test_what_would_end_more_than_the_run_is_a_failure_that_celery_settles(raised: BaseException) -> None:
    def run() -> None:
        raise raised

    _, escaped, _ = a_pool().apply_async(run, ())
    assert isinstance(escaped.exception.exc, TaskExitError)
    assert escaped.exception.exc.__cause__ is raised


def test_what_ends_the_worker_passes() -> None:
    def run() -> None:
        raise WorkerShutdown(0)

    with pytest.raises(WorkerShutdown):
        a_pool().apply_async(run, ())


def test_the_worker_ends_once_with_the_first_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.state, "should_stop", None)
    said: list[str] = []
    begun: list[bool] = []
    given_up = results.ResultsGivenUp(an_app(), lambda error: said.append(str(error)), lambda: begun.append(True))
    monkeypatch.setattr(results.state, "task_ready", lambda _: None)
    for _ in range(2):
        given_up.takes_failure(Request(), info(BackendStoreError("away")), return_ok=False)
    (sentence,) = said
    assert sentence.startswith("The result of shop.order[1] could not be stored in redis://away/0 after 3 retries")
    assert begun == [True]
    assert results.state.should_stop == 74
