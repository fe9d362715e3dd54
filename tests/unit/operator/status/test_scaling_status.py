"""What the status says of scaling, and when that is worth a write or an event."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.factories import NOW, a_case, a_deployment, a_pool, counts, seen

from celeriac_operator.decide.observed import ScalingState
from celeriac_operator.reasons import Activity
from celeriac_operator.resource import ScalingDecision, Status
from celeriac_operator.status import compute, events, writing

SCALES: dict[str, Any] = {
    "queues": ["mail", "sms"],
    "broker": {"url": "redis://redis/0"},
    "autoscaling": {"maxReplicas": 8, "target": {"backlogPerReplica": 5}},
}
PAUSE = "celeriac.dev/pause-scaling"


def a_decision(before: int, after: int, *, age: int = 0) -> ScalingDecision:
    return ScalingDecision(
        time=NOW - timedelta(seconds=age),
        from_replicas=before,
        to_replicas=after,
        reason=f"for {after}",
        backlog=5 * after,
        in_flight=0,
        busy_slots=0,
    )


def a_state(
    *decisions: ScalingDecision,
    activity: Activity = Activity.ACTIVE,
    message: str = "backlog 3",
    backlog: int | None = 3,
) -> ScalingState:
    queues = None if backlog is None else {"mail": backlog, "sms": 1}
    return ScalingState(activity=activity, message=message, backlog=queues, decisions=decisions)


def report(
    state: ScalingState | None, *, old: Status | None = None, annotations: dict[str, str] | None = None, **spec: Any
) -> Status:
    said = old.model_dump(by_alias=True, exclude_none=True, mode="json") if old else None
    pool = a_pool(status=said, annotations=annotations, **{**SCALES, **spec})
    what = seen(pool, deployment=a_deployment(pool, status=counts(pool.spec.replicas, pool.spec.replicas)))
    return compute.compute(a_case(dataclasses.replace(what, scaling=state))).status


def condition(of: Status, kind: str = "ScalingActive") -> tuple[str, str, str] | None:
    found = {each.type: (each.status, each.reason, each.message) for each in of.conditions}
    return found.get(kind)


def test_without_autoscaling_the_backlog_is_said_and_nothing_of_scaling() -> None:
    since = NOW - timedelta(minutes=5)
    state = dataclasses.replace(a_state(a_decision(0, 1)), oldest_since=since)
    found = report(state, autoscaling=None)
    assert condition(found) is None
    assert (found.backlog, found.oldest_message_time, found.scaling, found.last_scale_time) == (4, since, None, None)
    assert [queue.name for queue in found.queues or ()] == ["mail", "sms"]


def test_the_backlog_stays_until_the_queues_are_read_again_and_goes_when_they_are_not_read() -> None:
    old = report(a_state(), autoscaling=None)
    assert writing.is_same(old, report(None, old=old, autoscaling=None)), "a restart of the operator writes nothing"
    off = ScalingState(activity=Activity.DISABLED, message="", is_read=False)
    found = report(off, old=old, autoscaling=None)
    assert (found.queues, found.backlog, found.oldest_message_time) == (None, None, None)


def test_a_backlog_is_written_at_the_pace_of_figures() -> None:
    old = report(a_state(), autoscaling=None)
    state = dataclasses.replace(a_state(backlog=9), oldest_since=NOW)
    assert writing.is_only_queue_counts(old, report(state, old=old, autoscaling=None))


def test_the_figures_and_the_decisions_are_told_newest_first() -> None:
    found = report(a_state(a_decision(2, 3), a_decision(0, 2, age=60)))
    assert condition(found) == ("True", "Active", "backlog 3")
    assert (found.backlog, [(each.name, each.backlog) for each in found.queues or ()]) == (4, [("mail", 3), ("sms", 1)])
    assert found.scaling is not None
    assert (found.scaling.desired_replicas, found.scaling.reason) == (3, "for 3")
    assert found.last_scale_time == NOW


def test_the_status_remembers_ten_decisions_and_each_once() -> None:
    old = report(a_state(*(a_decision(0, 1, age=age) for age in range(20, 120, 10))))
    found = report(a_state(a_decision(1, 2), a_decision(0, 1, age=20)), old=old)
    assert found.scaling is not None
    ages = [(NOW - each.time).seconds for each in found.scaling.decisions]
    assert ages == [0, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_after_a_start_the_status_stays_as_it_is_until_something_is_known() -> None:
    old = report(a_state(a_decision(0, 1)))
    assert writing.is_same(report(None, old=old), old)
    assert condition(report(None)) is None


@pytest.mark.parametrize(
    ("state", "annotations", "spec", "expected"),
    [
        pytest.param(
            a_state(activity=Activity.BROKER_UNREACHABLE, message="held at 1: gone"),
            {},
            {},
            ("False", "BrokerUnreachable", "held at 1: gone"),
            id="the broker is away",
        ),
        pytest.param(
            a_state(),
            {PAUSE: "both"},
            {},
            ("False", "Paused", "held at 1: celeriac.dev/pause-scaling is both"),
            id="both directions are held",
        ),
        pytest.param(
            a_state(),
            {PAUSE: "out"},
            {},
            ("True", "Active", "backlog 3; celeriac.dev/pause-scaling is out"),
            id="one direction is held",
        ),
        pytest.param(
            a_state(),
            {PAUSE: "yes"},
            {},
            (
                "False",
                "Paused",
                "held at 1: celeriac.dev/pause-scaling is yes, which is not in, out or both",
            ),
            id="a word that means nothing",
        ),
        pytest.param(
            a_state(), {}, {"suspend": True}, ("False", "Disabled", "the pool is suspended"), id="the pool is suspended"
        ),
    ],
)
def test_scaling_is(
    state: ScalingState, annotations: dict[str, str], spec: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert condition(report(state, annotations=annotations, **spec)) == expected


def test_after_a_pause_it_is_not_said_any_more_that_it_lasts() -> None:
    assert condition(report(None, old=report(a_state(), annotations={PAUSE: "both"}))) is None


def test_a_pool_without_work_is_ready_without_workers_unless_nobody_would_notice_work() -> None:
    assert condition(report(a_state(), replicas=0), "Ready") == (
        "True",
        "ScaledToZero",
        "no message waits, and no worker is needed",
    )
    away = a_state(activity=Activity.BROKER_UNREACHABLE)
    found = condition(report(away, replicas=0), "Ready")
    assert found is not None
    assert found[:2] == ("False", "NoWorkers")


def test_figures_alone_are_no_reason_to_write_at_once() -> None:
    old = report(a_state(a_decision(0, 1)))
    assert writing.is_only_queue_counts(old, report(a_state(message="backlog 9", backlog=9), old=old))
    assert not writing.is_only_queue_counts(old, report(a_state(activity=Activity.FIGURES_STALE), old=old))
    assert not writing.is_only_queue_counts(old, report(a_state(a_decision(1, 2)), old=old))
    assert [writing.queue_counts_seconds(pools) for pools in (1, 300, 1000)] == [30, 30, 100]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param((), (a_decision(0, 3),), ["ScalingUp from 0 to 3 workers: for 3"], id="the first decision"),
        pytest.param((a_decision(0, 3, age=9),), (a_decision(3, 5),), [], id="further up: silence"),
        pytest.param(
            (a_decision(0, 3, age=9),), (a_decision(3, 2),), ["ScalingDown from 3 to 2 workers: for 2"], id="a turn"
        ),
        pytest.param(
            (a_decision(0, 3, age=9),),
            (a_decision(1, 4), a_decision(2, 1, age=3), a_decision(3, 2, age=6)),
            ["ScalingDown from 3 to 2 workers: for 2", "ScalingUp from 1 to 4 workers: for 4"],
            id="two turns since the last write",
        ),
    ],
)
def test_events_of_turns(
    before: tuple[ScalingDecision, ...], after: tuple[ScalingDecision, ...], expected: list[str]
) -> None:
    old = report(a_state(*before))
    new = report(a_state(*after), old=old)
    assert [f"{each.reason} {each.message}" for each in events.between(old, new)] == expected


@pytest.mark.parametrize(
    ("state", "annotations", "expected"),
    [
        pytest.param(a_state(activity=Activity.BROKER_UNREACHABLE), {}, ["BrokerUnreachable"], id="the broker is away"),
        pytest.param(a_state(), {PAUSE: "both"}, [], id="a person holds it: silence"),
    ],
)
def test_a_warning_when(state: ScalingState, annotations: dict[str, str], expected: list[str]) -> None:
    old = report(a_state())
    assert [each.reason for each in events.between(old, report(state, old=old, annotations=annotations))] == expected
