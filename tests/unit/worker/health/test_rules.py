from __future__ import annotations

from typing import Any

import pytest

from celeriac.health import rules
from celeriac.health.rules import Observed, Running


def seen(**changes: Any) -> Observed:
    """A worker that consumes and does nothing, with what the case is about."""
    values = {"uptime_seconds": 100, "slots": 4, "consuming": True, "ticked_seconds": 0.5, "drain_timeout_seconds": 300}
    return Observed(**{**values, **changes})


def a_task(seconds: float, limit: float | None = None) -> Running:
    return Running(name="shop.send", id="1-2", seconds=seconds, hard_limit_seconds=limit)


@pytest.mark.parametrize(
    ("observed", "sentence"),
    [
        pytest.param(
            seen(ticked_seconds=61),
            "the consumer loop has not turned for 61 s (limit 60 s)",
            id="a loop that stands still",
        ),
        pytest.param(
            seen(running=(a_task(50), a_task(41, 30))),
            "task shop.send[1-2] has run for 41 s, its hard limit is 30 s",
            id="a task past its hard limit and margin",
        ),
        pytest.param(
            seen(processes=0, processes_gone_seconds=61),
            "the pool has had no process for 61 s",
            id="a pool that is gone",
        ),
        pytest.param(
            seen(ignored_messages_seconds=61),
            "messages wait and slots are free, but nothing was taken for 61 s",
            id="a consumer that takes nothing",
        ),
        pytest.param(
            seen(draining_seconds=331), "draining for 331 s, the time-out is 300 s", id="a drain that does not end"
        ),
    ],
)
def test_a_restart_is_asked_for_by(observed: Observed, sentence: str) -> None:
    assert rules.broken(rules.LIVENESS, observed) == [sentence]


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(seen(), id="an idle worker"),
        pytest.param(seen(consuming=False, broker_away_seconds=9999, ticked_seconds=9999), id="a broker that is away"),
        pytest.param(seen(running=(a_task(99999),)), id="a long task without a limit"),
        pytest.param(seen(running=(a_task(309, 300),)), id="a task just past its limit, which Celery is about to end"),
        pytest.param(seen(running=tuple(a_task(5) for _ in range(4)), prefetched=9), id="all slots busy"),
        pytest.param(Observed(uptime_seconds=500), id="a slow start"),
        pytest.param(seen(draining_seconds=299, ticked_seconds=299), id="a drain, in which no loop turns"),
        pytest.param(seen(runs_inline=True, ticked_seconds=500, running=(a_task(500),)), id="solo at work"),
        pytest.param(seen(processes=0, processes_gone_seconds=3), id="processes that are being replaced"),
        pytest.param(seen(ignored_messages_seconds=30), id="messages that wait a moment"),
        pytest.param(seen(consuming=False, ignored_messages_seconds=99), id="messages that wait for a reconnect"),
    ],
)
def test_no_restart_is_asked_for_by(observed: Observed) -> None:
    assert rules.broken(rules.LIVENESS, observed) == []


def test_solo_that_stands_still_without_a_task_is_dead() -> None:
    assert rules.broken(rules.LIVENESS, seen(runs_inline=True, ticked_seconds=61))


@pytest.mark.parametrize(
    ("observed", "sentences"),
    [
        pytest.param(seen(), [], id="a worker that consumes"),
        pytest.param(Observed(uptime_seconds=1), ["starting", "not consuming yet"], id="one that starts"),
        pytest.param(
            seen(consuming=False, broker_away_seconds=12, broker_attempts=4),
            ["the broker has been away for 12 s, 4 attempts so far", "not consuming yet"],
            id="one without a broker",
        ),
        pytest.param(seen(draining_seconds=1, running=(a_task(3),)), ["draining: 1 tasks run"], id="one that leaves"),
    ],
)
def test_readiness_of(observed: Observed, sentences: list[str]) -> None:
    assert rules.broken(rules.READINESS, observed) == sentences
