"""A pool may be Ready and get no work done: what is said then."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.factories import (
    NOW,
    a_case,
    a_container,
    a_deployment,
    a_pod,
    a_pool,
    an_end,
    counts,
    seen,
)

from celeriac_operator.decide.work import Failure, RunningTask, WorkerReport
from celeriac_operator.resource import Status
from celeriac_operator.status import compute, events, writing
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions import broker, working
from celeriac_operator.status.conditions.statement import Statement

POOL = a_pool()


def task(*, age: float = 60, limit: int | None = None) -> RunningTask:
    return RunningTask(name="shop.mail", id="id-1", started_at=NOW - timedelta(seconds=age), limit_seconds=limit)


def a_report(**changes: Any) -> WorkerReport:
    default = WorkerReport(
        pod="emails-1",
        at=NOW,
        consuming=True,
        away_seconds=None,
        broker_error="",
        slots=2,
        busy=0,
        oldest=None,
        stuck=0,
        stuck_task=None,
        succeeded=0,
        failed=0,
        dead_letters=0,
        out_of_memory=0,
        last_failure=None,
    )
    return dataclasses.replace(default, **changes)


def case(
    *reports: WorkerReport,
    container: Mapping[str, Any] | None = None,
    asked: bool = True,
    status: Status | None = None,
    later: float = 0,
) -> Case:
    """A ready pool whose workers reply so."""
    pool = POOL.model_copy(update={"status": status}) if status else POOL
    pod = a_pod(pool, container or a_container(ready=True, started=True, running_for=600), ready=True)
    deployment = a_deployment(pool, status=counts(1, 1))
    there = {f"uid-emails-{number}": report for number, report in enumerate(reports, 1)}
    what = dataclasses.replace(seen(pool, deployment=deployment, pods=[pod]), reports=there if asked else None)
    return a_case(what, later=later)


def shown(statement: Statement | None) -> tuple[str, str, str] | None:
    return statement and (statement.status, statement.reason.value, statement.message)


FAILURE = Failure(task="shop.mail", id="id-7", exception="ValueError")


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        pytest.param(a_report(), ("True", "Idle", "no task runs"), id="idle"),
        pytest.param(a_report(busy=1, oldest=task()), ("True", "Busy", "tasks run"), id="busy"),
        pytest.param(
            a_report(failed=150, last_failure=FAILURE),
            (
                "False",
                "TasksFail",
                "150 of 150 tasks failed in the last 15 minutes; the last one is shop.mail[id-7]: ValueError",
            ),
            id="150 of 150 tasks fail",
        ),
        pytest.param(a_report(failed=2), ("True", "Idle", "no task runs"), id="two failures are no pattern"),
        pytest.param(a_report(failed=3, succeeded=4), ("True", "Idle", "no task runs"), id="fewer than half fail"),
        pytest.param(
            a_report(failed=3, succeeded=3),
            ("False", "TasksFail", "3 of 6 tasks failed in the last 15 minutes"),
            id="half fail",
        ),
        pytest.param(
            a_report(dead_letters=1),
            ("False", "DeadLetters", "1 message was dead-lettered in the last 15 minutes: see celeriac dead list"),
            id="a dead letter",
        ),
        pytest.param(
            a_report(busy=1, stuck=1, stuck_task=task(age=4000)),
            (
                "False",
                "TaskStuck",
                "1 of 2 slots are stuck; shop.mail[id-1] in pod emails-1 has run since 2026-05-04T10:53:20Z without a "
                "time limit; timeLimits.hardSeconds would end it",
            ),
            id="a task without a limit runs for more than an hour",
        ),
        pytest.param(
            a_report(busy=2, stuck=2, stuck_task=task(age=100, limit=60)),
            (
                "False",
                "AllSlotsStuck",
                "all slots are stuck; shop.mail[id-1] in pod emails-1 has run since 2026-05-04T11:58:20Z past its "
                "limit of 60 s; timeLimits.hardSeconds would end it",
            ),
            id="both slots are stuck",
        ),
        pytest.param(
            a_report(out_of_memory=3),
            (
                "False",
                "OutOfMemory",
                "pod emails-1: 3 processes were killed at the memory limit in the last 15 minutes: raise "
                "resources.limits.memory, or set worker.maxMemoryPerChild (prefork)",
            ),
            id="a child was killed for memory three times",
        ),
    ],
)
def test_working_when(report: WorkerReport, expected: tuple[str, str, str]) -> None:
    assert shown(working.working(case(report))) == expected


def test_a_container_that_was_killed_for_memory_and_is_ready_again_is_said() -> None:
    ended = an_end(137, reason="OOMKilled")
    container = a_container(ready=True, started=True, running_for=50, restarts=1, ended_before=ended)
    what = case(a_report(), container=container)
    assert shown(working.working(what)) == (
        "False",
        "OutOfMemory",
        "pod emails-1 was killed at its memory limit (exit code 137): raise resources.limits.memory, or set "
        "worker.maxMemoryPerChild (prefork)",
    )
    assert working.recheck_seconds(what) == 840
    assert shown(working.working(case(a_report(), container=container, later=841))) == ("True", "Idle", "no task runs")


def test_a_container_that_a_probe_ended_is_not_called_memory() -> None:
    container = a_container(ready=True, started=True, running_for=50, restarts=1, ended_before=an_end(137))
    assert shown(working.working(case(a_report(), container=container))) == ("True", "Idle", "no task runs")


def test_no_reply_is_unknown_and_a_restart_of_the_operator_changes_nothing() -> None:
    assert shown(working.working(case())) == ("Unknown", "NotKnown", "no worker replies to the operator")
    before = compute.compute(case(a_report(failed=9))).status
    again = compute.compute(case(asked=False, status=before)).status
    assert writing.is_same(before, again)
    assert list(events.between(before, again)) == []


def test_each_problem_is_one_event_however_long_it_lasts() -> None:
    """Three problems come one after the other, and go again."""
    told: list[str] = []
    status = Status()
    for report in (
        a_report(),
        a_report(dead_letters=1),
        a_report(dead_letters=2, failed=8),
        a_report(dead_letters=2, failed=9, busy=1, stuck=1, stuck_task=task(age=4000)),
        a_report(dead_letters=3, failed=9, succeeded=20, busy=1, stuck=1, stuck_task=task(age=4000)),
        a_report(),
        a_report(dead_letters=1),
    ):
        new = compute.compute(case(report, status=status)).status
        told += [str(event.reason) for event in events.between(status, new) if event.kind == "Warning"]
        status = new
    assert told == ["DeadLetters", "TasksFail", "TaskStuck", "DeadLetters"]


def test_figures_alone_are_written_at_the_pace_of_figures() -> None:
    old = compute.compute(case(a_report(busy=1, succeeded=1, oldest=task()))).status
    new = compute.compute(case(a_report(busy=0, succeeded=9), status=old)).status
    assert not writing.is_same(old, new)
    assert writing.is_only_queue_counts(old, new)
    worse = compute.compute(case(a_report(dead_letters=1), status=old)).status
    assert not writing.is_only_queue_counts(old, worse)
    assert not writing.is_minor(old, worse)


def test_nothing_is_written_while_nothing_happens() -> None:
    old = compute.compute(case(a_report(busy=1, succeeded=1, oldest=task()))).status
    later = compute.compute(case(a_report(busy=1, succeeded=1, oldest=task()), status=old, later=3000)).status
    assert writing.is_same(old, later)


def test_a_pool_at_zero_has_no_work() -> None:
    what = dataclasses.replace(seen(POOL, deployment=a_deployment(POOL)), reports={})
    assert working.working(a_case(what)) is None
    assert working.status_fields(a_case(what)) == {"work": None}


TRYING = a_container(started=True, running_for=600)


@pytest.mark.parametrize(
    ("report", "container", "expected"),
    [
        pytest.param(
            a_report(consuming=False, away_seconds=3.0, broker_error="Error 111 connecting to redis:6379"),
            TRYING,
            ("False", "ConnectionRefused", "pod emails-1 cannot reach the broker: Error 111 connecting to redis:6379"),
            id="a worker tries",
        ),
        pytest.param(
            a_report(consuming=False, away_seconds=3.0),
            a_container(ready=True, started=True, running_for=600),
            ("False", "ConnectionRefused", "pod emails-1 cannot reach the broker: its connection is lost"),
            id="the probe has not noticed yet",
        ),
        pytest.param(
            a_report(consuming=False, away_seconds=3.0, broker_error="WRONGPASS invalid username-password pair"),
            TRYING,
            (
                "False",
                "AuthenticationFailed",
                "pod emails-1 cannot reach the broker: WRONGPASS invalid username-password pair",
            ),
            id="the password is wrong",
        ),
        pytest.param(
            a_report(consuming=False, away_seconds=1.0),
            a_container(ready=True, started=True, running_for=600),
            ("True", "Connected", "workers consume"),
            id="a connection that breaks and is back at once",
        ),
        pytest.param(
            a_report(consuming=False),
            TRYING,
            ("Unknown", "NotKnown", "no worker is connected, and none has reported why"),
            id="a worker that starts",
        ),
    ],
)
def test_the_broker_is_reachable_when(
    report: WorkerReport, container: Mapping[str, Any], expected: tuple[str, str, str]
) -> None:
    assert shown(broker.reachable(case(report, container=container))) == expected
