"""The lighter way of watching a run, beside the SDK's own: the same events reach Sentry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from celery import Celery
from celery.app import trace
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.scope import Scope
from sentry_sdk.tracing import Transaction

from celeriac.failures.sentry import runs

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"sentry-trace": f"{TRACE_ID}-{PARENT_ID}"}

app = Celery("watched", set_as_current=False)


@app.task(name="fails", bind=True, throws=(KeyError,))
def fails(_self: Any, error: Exception) -> None:
    sentry_sdk.add_breadcrumb(message="before")
    sentry_sdk.set_tag("own", "yes")
    raise error


@app.task(name="says")
def says(text: str) -> None:
    Scope.get_current_scope().transaction.set_tag("asked", "for")  # an application that traces elsewhere
    sentry_sdk.capture_message(text)


@app.task(name="calls")
def calls(error: Exception) -> None:
    fails(error)


class Overriding(app.Task):  # type: ignore[name-defined]  # made by Celery
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@app.task(name="overridden", base=Overriding)
def overridden(error: Exception) -> None:
    raise error


@pytest.fixture(scope="module")
def events() -> Iterator[list[dict[str, Any]]]:
    """What would be sent, of an SDK that is set up for this module alone."""
    found: list[dict[str, Any]] = []
    before = trace.build_tracer
    sentry_sdk.init(
        dsn="http://public@127.0.0.1:9/1",
        default_integrations=False,
        integrations=[CeleryIntegration()],
        before_send=lambda event, _: found.append(event),  # type: ignore[arg-type, func-returns-value]
    )
    assert runs.install()
    yield found
    trace.build_tracer = before
    sentry_sdk.get_client().close()
    Scope.get_global_scope().set_client(None)


@pytest.fixture(params=["lighter", "the SDK's own"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "lighter":
        monkeypatch.setattr(runs.Watch, "is_enough", lambda _: False)
    return str(request.param)


def run(events: list[dict[str, Any]], task: Any, *args: Any, **options: Any) -> list[dict[str, Any]]:
    events.clear()
    task.apply(args, **options)
    return list(events)


def essence(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what differs from run to run."""
    shown = {key: event.get(key) for key in ("level", "transaction", "transaction_info", "fingerprint", "message")}
    exceptions = [
        (it["type"], it["value"], it["mechanism"], [frame["function"] for frame in it["stacktrace"]["frames"]])
        for it in event.get("exception", {}).get("values", [])
    ]
    crumbs = [it["message"] for it in event.get("breadcrumbs", {}).get("values", [])]
    return {
        **shown,
        "tags": event.get("tags"),
        "job": event.get("extra"),
        "exceptions": exceptions,
        "breadcrumbs": crumbs,
        "trace": sorted(event["contexts"]["trace"]),
    }


@pytest.mark.parametrize(
    ("task", "make", "count"),
    [
        pytest.param(fails, lambda: ValueError("broke"), 1, id="an exception is an event"),
        pytest.param(fails, lambda: SoftTimeLimitExceeded(1), 1, id="the soft limit is one, of its own group"),
        pytest.param(overridden, lambda: ValueError("broke"), 1, id="so is one where __call__ is overridden"),
        pytest.param(says, lambda: "hello", 1, id="a message of the application carries the task"),
        pytest.param(fails, lambda: KeyError("expected"), 0, id="what the task expects is none"),
        pytest.param(fails, Retry, 0, id="a retry is none"),
        pytest.param(fails, Ignore, 0, id="a task that is ignored is none"),
        pytest.param(fails, Reject, 0, id="a task that is rejected is none"),
    ],
)
def test_events_are_those_of_the_sdks_own_wrappers(
    task: Any, make: Callable[[], Any], count: int, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lighter = run(events, task, make(), task_id="1", headers=HEADERS)
    monkeypatch.setattr(runs.Watch, "is_enough", lambda _: False)
    own = run(events, task, make(), task_id="1", headers=HEADERS)
    assert len(lighter) == count
    assert [essence(it) for it in lighter] == [essence(it) for it in own]


def test_the_lighter_way_is_taken_without_traces_and_left_with_them(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    start = sentry_sdk.start_transaction
    monkeypatch.setattr(sentry_sdk, "start_transaction", lambda *a, **k: (begun.append(a), start(*a, **k))[1])
    run(events, fails, ValueError())
    assert begun == []
    monkeypatch.setitem(sentry_sdk.get_client().options, "traces_sample_rate", 0.0)
    assert len(run(events, fails, ValueError())) == 1
    assert len(begun) == 1


def test_a_runs_transaction_is_made_only_when_somebody_looks_at_it(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = Transaction.__init__
    monkeypatch.setattr(
        Transaction, "__init__", lambda self, **options: (made.append(options["name"]), make(self, **options))[1]
    )
    run(events, fails, ValueError())
    assert made == []
    run(events, says, "looks")
    assert made == ["says"]


def test_nothing_of_one_run_reaches_the_next(way: str, events: list[dict[str, Any]]) -> None:
    run(events, fails, ValueError())
    (event,) = run(events, says, "next")
    assert "own" not in event["tags"]
    assert not event.get("breadcrumbs", {}).get("values")


def test_an_event_belongs_to_the_trace_of_the_tasks_publisher(way: str, events: list[dict[str, Any]]) -> None:
    (event,) = run(events, fails, ValueError(), headers=HEADERS)
    assert (event["contexts"]["trace"]["trace_id"], event["contexts"]["trace"]["parent_span_id"]) == (
        TRACE_ID,
        PARENT_ID,
    )
    (event,) = run(events, fails, ValueError())
    assert event["contexts"]["trace"]["trace_id"] != TRACE_ID


def test_an_exception_of_a_task_that_another_one_calls_passes_through_both(
    way: str, events: list[dict[str, Any]]
) -> None:
    found = run(events, calls, ValueError("inner"))
    assert {it["exception"]["values"][-1]["value"] for it in found} == {"inner"}
