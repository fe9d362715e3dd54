"""What of a request is counted, and how long its message has waited."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac import counts
from celeriac.health.recent import Recent
from celeriac.hooks import counting
from celeriac.metrics.tally import Tally
from celeriac.policies import published


@pytest.fixture
def tally() -> Iterator[Tally]:
    """What is counted in this process, for one test."""
    result = Tally(names=2)
    counts.receive_by(result.receive)
    yield result
    counts.receive_by(None)


def a_request(**fields: Any) -> Any:
    message = SimpleNamespace(headers={published.HEADER: 100.0})
    info = {"routing_key": "emails"}
    given = {"time_start": 100.4, "runtime_seconds": None, **fields}
    return SimpleNamespace(name="shop.send", eta=None, delivery_info=info, message=message, **given)


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [
        pytest.param(a_request(runtime_seconds=0.2), 0.2, id="as Celery's tracer measured it"),
        pytest.param(a_request(), pytest.approx(1.5, abs=0.5), id="until now, where the run was ended from outside"),
        pytest.param(a_request(time_start=None), None, id="not at all, where no run began"),
    ],
)
def test_a_last_state_is_counted_with_the_runs_length(
    request_: Any, seconds: float | None, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting.time, "time", lambda: 101.9)
    counting.Counting(Recent()).reached(request_, "succeeded")
    counted = tally.snapshot()
    assert counted.counts["celeriac_worker_tasks"] == {("shop.send", "succeeded"): 1}
    runtimes = counted.timings.get("celeriac_worker_task_runtime_seconds")
    assert (runtimes[("shop.send",)].sum_seconds if runtimes else None) == seconds


def test_a_start_is_counted_with_the_messages_wait(tally: Tally) -> None:
    counting.Counting(Recent()).accepted(a_request())
    counted = tally.snapshot()
    assert counted.counts["celeriac_worker_tasks"] == {("shop.send", "started"): 1}
    assert counted.timings["celeriac_worker_task_wait_seconds"][("emails",)].sum_seconds == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("headers", "eta", "waited"),
    [
        pytest.param({}, None, None, id="a producer without the library"),
        pytest.param({published.HEADER: "soon"}, None, None, id="a header that says nothing"),
        pytest.param(None, None, None, id="no headers at all"),
        pytest.param({published.HEADER: 90.0}, None, 10.0, id="since it was published"),
        pytest.param({published.HEADER: 90.0}, 97, 3.0, id="since it was due"),
        pytest.param({published.HEADER: 90.0}, 80, 10.0, id="an ETA that was over when it was published"),
        pytest.param({published.HEADER: 101.0}, None, 0.0, id="a clock that is ahead"),
    ],
)
def test_a_message_has_waited(headers: Any, eta: float | None, waited: float | None) -> None:
    due = None if eta is None else datetime.fromtimestamp(eta, timezone.utc)
    assert counting.waited_seconds(headers, due, 100.0) == waited
