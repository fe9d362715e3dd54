"""Each step of a request is told to the listeners that want to know it, in order; the last state is told once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded, WorkerLostError

from celeriac.hooks import requests


class StockRequest:
    """As much of Celery's request as the hooks call."""

    name = "shop.send"

    def __init__(self, said: list[str], fails: Exception | None = None) -> None:
        self.said = said
        self.fails = fails

    def on_accepted(self, _pid: int, _time_accepted: float) -> None:
        self.said.append("Celery: accepted")

    def on_failure(self, _exc_info: Any, *, return_ok: bool, **_: Any) -> str:
        self.said.append("Celery: failure")
        self.return_ok = return_ok
        if self.fails:
            raise self.fails
        return "Celery's answer"

    def on_timeout(self, soft: bool, timeout: float) -> None:
        self.said.append(f"Celery: {'soft' if soft else 'hard'} limit of {timeout}")

    def _announce_revoked(self, *_: Any) -> None:
        self.said.append("Celery: revoked")

    def _success_was_stored(self) -> bool:
        return True


class Everything(requests.Listener):
    """Writes down each step."""

    def __init__(self, said: list[str], *, takes: bool = False) -> None:
        self.said = said
        self.takes = takes

    def accepted(self, _request: Any) -> None:
        self.said.append("accepted")

    def run_ended(self, _request: Any) -> None:
        self.said.append("run ended")

    def takes_failure(self, request: Any, _exc_info: Any, _return_ok: bool) -> bool:
        self.said.append("takes it" if self.takes else "leaves it to Celery")
        request.given_back = self.takes
        return self.takes

    def failed(self, _request: Any, error: BaseException) -> None:
        self.said.append(f"failed: {type(error).__name__}")

    def hard_limit_passed(self, _request: Any, seconds: float) -> None:
        self.said.append(f"hard limit of {seconds}")

    def reached(self, _request: Any, state: str) -> None:
        self.said.append(state)


class Request(requests.RequestHooks, StockRequest):  # type: ignore[misc]
    """As Celery makes them, with a callback that does not call its base's."""

    def on_success(self, failed__retval__runtime: Any) -> None:
        failed, error, _ = failed__retval__runtime
        if failed:
            self.on_failure(error, return_ok=True)


TERMINATED = {"reason": "terminated", "terminated": True, "signum": 15, "expired": False}
EXPIRED = {"reason": "expired", "terminated": False, "signum": None, "expired": True}
FAILURE = ["leaves it to Celery", "Celery: failure"]


def of(error: BaseException) -> Any:
    return SimpleNamespace(exception=error)


def a_request(**options: Any) -> Any:
    said: list[str] = []
    request = Request(said, options.pop("fails", None))
    request.listeners = requests.Listeners.of([Everything(said, **options)])
    return request


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param(lambda it: it.on_accepted(7, 1.0), ["Celery: accepted", "accepted"], id="it begins"),
        pytest.param(lambda it: it.on_success((0, None, 0.2)), ["run ended", "succeeded"], id="it returns"),
        pytest.param(
            lambda it: it.on_success((1, of(KeyError()), 0.2)),
            ["run ended", "run ended", *FAILURE, "failed: KeyError", "failed"],
            id="it raises",
        ),
        pytest.param(
            lambda it: (it.on_failure(of(TimeLimitExceeded(1))), it.on_timeout(soft=False, timeout=1)),
            [
                "run ended",
                *FAILURE,
                "failed: TimeLimitExceeded",
                "timed_out",
                "hard limit of 1",
                "Celery: hard limit of 1",
            ],
            id="the hard limit, of which Celery tells twice",
        ),
        pytest.param(lambda it: it.on_timeout(soft=True, timeout=1), ["Celery: soft limit of 1"], id="the soft limit"),
        pytest.param(
            lambda it: (it._success_was_stored(), it.on_failure(of(WorkerLostError()))),
            ["run ended", *FAILURE, "failed: WorkerLostError", "succeeded"],
            id="its process is lost after it has succeeded",
        ),
        pytest.param(
            lambda it: it.on_failure(of(ExceptionWithTraceback(Reject("no"), None))),
            ["run ended", *FAILURE, "failed: Reject", "rejected"],
            id="an exception from another process",
        ),
        pytest.param(lambda it: it._announce_revoked(**TERMINATED), ["revoked", "Celery: revoked"], id="terminated"),
        pytest.param(lambda it: it._announce_revoked(**EXPIRED), ["expired", "Celery: revoked"], id="it expires"),
    ],
)
def test_what_listeners_are_told_when(happens: Any, told: list[str]) -> None:
    request = a_request()
    happens(request)
    assert request.said == told


def test_a_run_that_was_given_back_is_no_failure() -> None:
    request = a_request()
    request.given_back = True
    assert request.on_failure(of(WorkerLostError())) is None
    assert request.said == ["run ended"]


def test_a_listener_may_handle_a_failure_instead_of_celery() -> None:
    request = a_request(takes=True)
    assert request.on_failure(of(KeyError())) is None
    assert request.said == ["run ended", "takes it", "failed: KeyError"]


def test_celerys_answer_is_passed_on() -> None:
    assert a_request().on_failure(of(KeyError())) == "Celery's answer"


@pytest.mark.parametrize("kind", [ExceptionInfo, requests.Escaped])
def test_what_celerys_tracer_has_not_handled_its_request_handles(kind: Any) -> None:
    try:
        raise KeyError  # noqa: TRY301 - what is being handled is what counts
    except KeyError:
        exc_info = kind()
    request = a_request()
    request.on_success((1, exc_info, 0.0))
    assert request.return_ok is (kind is ExceptionInfo)


def test_a_failure_that_celery_fails_to_handle_is_told_all_the_same() -> None:
    request = a_request(fails=OSError("the result backend is away"))
    with pytest.raises(OSError, match="away"):
        request.on_failure(of(KeyError()))
    assert request.said[-1] == "failed: KeyError"


def test_a_step_calls_only_those_who_want_to_know_it_in_their_order() -> None:
    class Starts(requests.Listener):
        def accepted(self, _request: Any) -> None: ...

    first, second = Starts(), Starts()
    told = requests.Listeners.of([first, requests.Listener(), second])
    assert told == requests.Listeners(accepted=(first.accepted, second.accepted))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        pytest.param(Retry(), "retried", id="a retry"),
        pytest.param(Ignore(), "ignored", id="an ignored run"),
        pytest.param(Reject(), "rejected", id="a rejected message"),
        pytest.param(TimeLimitExceeded(1), "timed_out", id="the hard limit"),
        pytest.param(WorkerLostError(), "lost", id="a process that was killed"),
        pytest.param(SystemExit(1), "lost", id="a process that ended itself"),
        pytest.param(KeyError("x"), "failed", id="any other exception"),
    ],
)
def test_a_run_that_ended_with(error: BaseException, state: str) -> None:
    assert requests.state_of(error) == state
    assert state in requests.LAST_STATES
