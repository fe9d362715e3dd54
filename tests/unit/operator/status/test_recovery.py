"""A pool that stalls warns once, however its containers come and go, and says once that it is ready again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.factories import NOW, a_case, a_container, a_deployment, a_pod, a_pool, counts, seen

from celeriac_operator.event import Event
from celeriac_operator.reasons import EventReason, Type
from celeriac_operator.resource import Condition, LastStalled, Status
from celeriac_operator.status import compute, events

BACK_OFFS = (0, 10, 20, 40, 80, 160, 300)
"""Seconds that the kubelet waits before it starts a container again."""


def a_life(code: int, *, ran: float) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """The states of a container that ends again and again, each with its time in seconds."""
    now, last = 0.0, None
    for restarts, pause in enumerate((*BACK_OFFS, 300)):
        yield now, a_container(started=True, running_for=-now, restarts=restarts, ended_before=last)
        now += ran
        last = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": "",
            "startedAt": at(now - ran),
            "finishedAt": at(now),
        }
        yield now, a_container(restarts=restarts, ended=last)
        if pause:
            yield now + 1, a_container(restarts=restarts, waiting=("CrashLoopBackOff", ""), ended_before=last)
        now += pause or 1


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def step(status: Status, seconds: float, container: Mapping[str, Any], *, grace: float) -> tuple[Status, list[Event]]:
    """One pass: what is written and told."""
    is_ready = bool(container["ready"])
    pool = a_pool().model_copy(update={"status": status})
    pods = [a_pod(pool, container, ready=is_ready)]
    deployment = a_deployment(pool, status=counts(1, int(is_ready)))
    case = a_case(seen(pool, deployment=deployment, pods=pods), later=seconds, grace=grace)
    new = compute.compute(case).status
    return new, list(events.between(status, new))


@pytest.mark.parametrize("grace", [0, 90])
@pytest.mark.parametrize("code", [0, 1, 2, 137, 143])
@pytest.mark.parametrize("ran", [1, 15])
def test_a_crash_loop_warns_once_whatever_its_exit_code(code: int, ran: float, grace: float) -> None:
    status, told = Status(), []
    life = [(round(now), container) for now, container in a_life(code, ran=ran)]
    for (now, container), (following, _) in itertools.pairwise([*life, (life[-1][0] + 400, life[-1][1])]):
        # Each state is also looked at again shortly before the next one.
        for moment in {now, max(now, following - 1)}:
            status, found = step(status, moment, container, grace=grace)
            told += found
    assert [(event.kind, event.reason) for event in told] == [("Warning", "CrashLoop")]
    ready = a_container(ready=True, started=True, running_for=-life[-1][0], restarts=9)
    status, found = step(status, life[-1][0] + 500, ready, grace=grace)
    assert [str(event.reason) for event in found] == ["Recovered"]
    assert found[0].message == "1 worker is ready and consuming; the pool was stalled (CrashLoop)"
    assert status.stalled is None


OVERALL = st.sampled_from(["Ready", "Progressing", "Suspended", "CrashLoop!", "ImagePullFailed!", "CrashLoop"])


@given(st.lists(OVERALL, max_size=25))
def test_each_time_that_a_pool_was_stalled_ends_with_one_recovery(states: list[str]) -> None:
    """Stalled, Progressing, Ready in any order: between two Recovered there is a warning, and the other way round."""
    status, told = Status(), []
    for state in states:
        new = a_status(status, state)
        told += [(event.kind, str(event.reason)) for event in events.between(status, new)]
        status = new
    balance = 0
    for kind, reason in told:
        if reason == EventReason.RECOVERED:
            assert balance > 0
            balance = 0
        else:
            assert kind == "Warning"
            balance += 1
    is_open = status.stalled is not None
    recoveries = [index for index, state in enumerate(states) if state == "Ready"]
    last_stall = max((index for index, state in enumerate(states) if state.endswith("!")), default=-1)
    rests = [index for index, state in enumerate(states) if state == "Suspended"]
    assert is_open == (last_stall > max([*recoveries, *rests], default=-1))


def a_status(old: Status, state: str) -> Status:
    reason, is_stalled = state.rstrip("!"), state.endswith("!")
    ready = reason in ("Ready", "Suspended")
    conditions = [
        Condition(
            type=Type.READY, status="True" if ready else "False", reason=reason, message="m", last_transition_time=NOW
        )
    ]
    if is_stalled:
        conditions.append(
            Condition(type=Type.STALLED, status="True", reason=reason, message="m", last_transition_time=NOW)
        )
    kept = LastStalled(reason=reason, since=NOW) if is_stalled else old.stalled
    return Status(conditions=tuple(conditions), stalled=None if ready else kept)


def test_a_pool_that_is_stopped_on_purpose_has_not_recovered() -> None:
    stalled = a_status(Status(), "CrashLoop!")
    assert list(events.between(stalled, a_status(stalled, "Suspended"))) == []


def test_since_when_a_pool_is_stalled_does_not_change_with_the_reason() -> None:
    first, _ = step(Status(), 0, a_container(waiting=("ImagePullBackOff", "no such image")), grace=0)
    ended = {"exitCode": 1, "reason": "Error", "message": "", "startedAt": at(50), "finishedAt": at(51)}
    second, told = step(first, 60, a_container(waiting=("CrashLoopBackOff", ""), ended_before=ended), grace=0)
    assert first.stalled is not None
    assert second.stalled is not None
    assert (second.stalled.since, second.stalled.reason) == (first.stalled.since, "CrashLoop")
    assert [str(event.reason) for event in told] == ["CrashLoop"]
