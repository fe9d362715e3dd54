"""One row for each sentence of the policy, and what must hold whatever the figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac_operator.autoscaling.policy import (
    Activity,
    BacklogPerReplica,
    BusySlots,
    Decision,
    Figures,
    History,
    Latency,
    Pause,
    Spec,
    Target,
    Wanted,
    decide,
)

NOW = 1_000.0
BACKLOG, LATENCY, BUSY = BacklogPerReplica(messages=20), Latency(seconds=5), BusySlots(percent=80)
QUIET: dict[str, Any] = {"backlog": 0}


def spec(target: Target = BACKLOG, **fields: Any) -> Spec:
    return Spec(**{"min_replicas": 0, "max_replicas": 40, "target": target, "slots": 4, **fields})


def figures(**fields: Any) -> Figures:
    return Figures(**{"read_at": NOW, "backlog": 0, **fields})


@pytest.mark.parametrize(
    ("asked", "read", "current", "replicas", "reason"),
    [
        pytest.param(spec(), {"backlog": 480}, 3, 24, "backlog 480 / 20 per replica", id="up at once by any factor"),
        pytest.param(spec(), {"backlog": 1}, 0, 1, "backlog 1 / 20 per replica", id="the first message leaves zero"),
        pytest.param(
            spec(), {"backlog": 30, "in_flight": 11}, 1, 3, "backlog 30 + 11 in flight / 20 per replica",
            id="messages in flight count as work",
        ),
        pytest.param(
            spec(), {"backlog": 0, "in_flight": 1}, 1, 1, "backlog 0 + 1 in flight / 20 per replica",
            id="one message in flight keeps a worker",
        ),
        pytest.param(
            spec(BUSY), {"backlog": 0, "in_flight": 1}, 1, 1, "backlog 0 + 0 busy slots at 80% of 4 slots per replica",
            id="a held message keeps a worker also where only slots are counted",
        ),
        pytest.param(
            spec(), {"backlog": 9_000}, 3, 40, "backlog 9000 / 20 per replica: 450, at most 40", id="the ceiling holds",
        ),
        pytest.param(
            spec(min_replicas=2), QUIET, 0, 2, "backlog 0 / 20 per replica: 0, at least 2", id="the floor holds",
        ),
        pytest.param(
            spec(), QUIET, 5, 5, "backlog 0 / 20 per replica: 0, but 5 were wanted within 60 s",
            id="the first look at a running pool takes nothing away",
        ),
        pytest.param(
            spec(stabilization_seconds=0), QUIET, 5, 0, "backlog 0 / 20 per replica",
            id="without a window the number goes down at once",
        ),
        pytest.param(
            spec(BUSY), {"backlog": 16, "busy_slots": 16}, 4, 10,
            "backlog 16 + 16 busy slots at 80% of 4 slots per replica", id="busy and waiting fill 80 percent of slots",
        ),
        pytest.param(
            spec(LATENCY), {"backlog": 100, "service_seconds": 2.0, "oldest_age_seconds": 0.0}, 1, 10,
            "backlog 100, 2 s each, oldest waits 0.0 s, to start within 5 s",
            id="a hundred tasks of two seconds start within five seconds on forty slots",
        ),
        pytest.param(
            spec(LATENCY), {"backlog": 100, "service_seconds": 2.0, "oldest_age_seconds": 4.0}, 1, 25,
            "backlog 100, 2 s each, oldest waits 4.0 s, to start within 5 s",
            id="the longer the oldest has waited the less time is left",
        ),
        pytest.param(
            spec(LATENCY), {"backlog": 8, "in_flight": 8}, 2, 4,
            "backlog 8 + 8 in flight, runtime not known yet, oldest waits 0.0 s, to start within 5 s",
            id="an unknown runtime is taken to be the target",
        ),
        pytest.param(
            spec(LATENCY), {"backlog": 3, "service_seconds": 60.0, "oldest_age_seconds": 9.0}, 1, 1,
            "backlog 3, 60 s each, oldest waits 9.0 s, to start within 5 s", id="no more slots than messages",
        ),
        pytest.param(
            spec(), {"backlog": 480, "unschedulable": 2}, 3, 3,
            "backlog 480 / 20 per replica: 24, held at 3: 2 cannot be scheduled", id="workers without a node",
        ),
        pytest.param(
            spec(min_replicas=5), {"backlog": 480, "unschedulable": 2}, 3, 5,
            "backlog 480 / 20 per replica: 24, held at 5: 2 cannot be scheduled", id="the floor, not the nodes",
        ),
        pytest.param(
            spec(pause=Pause.OUT), {"backlog": 480}, 3, 3,
            "backlog 480 / 20 per replica: 24, held at 3: scaling is paused (out)", id="a pause of out stops growth",
        ),
        pytest.param(
            spec(pause=Pause.IN), {"backlog": 480}, 3, 24, "backlog 480 / 20 per replica",
            id="a pause of in lets it grow",
        ),
        pytest.param(
            spec(pause=Pause.IN, stabilization_seconds=0), QUIET, 3, 3,
            "backlog 0 / 20 per replica: 0, held at 3: scaling is paused (in)", id="a pause of in stops shrinking",
        ),
        pytest.param(
            spec(pause=Pause.OUT, stabilization_seconds=0), QUIET, 3, 0, "backlog 0 / 20 per replica",
            id="a pause of out lets it shrink",
        ),
        pytest.param(
            spec(pause=Pause.BOTH, min_replicas=5), QUIET, 3, 3,
            "backlog 0 / 20 per replica: 0, at least 5: 5, held at 3: scaling is paused (both)",
            id="a pause of both stands above the floor",
        ),
    ],
)  # fmt: skip
def test_one_decision(asked: Spec, read: dict[str, Any], current: int, replicas: int, reason: str) -> None:
    decision = decide(asked, figures(**read), History(), current=current, now=NOW)
    assert (decision.replicas, decision.reason, decision.is_active) == (replicas, reason, True)


@pytest.mark.parametrize(
    ("read", "now", "activity", "reason"),
    [
        pytest.param(None, NOW, Activity.BROKER_UNREACHABLE, "held at 7: the broker does not respond", id="no answer"),
        pytest.param(
            figures(),
            NOW + 10.5,
            Activity.FIGURES_STALE,
            "held at 7: the newest figures are 10 s old",
            id="old figures",
        ),
        pytest.param(figures(), NOW + 10, Activity.ACTIVE, None, id="figures of ten seconds still decide"),
    ],
)
def test_without_fresh_figures_nothing_moves(
    read: Figures | None, now: float, activity: Activity, reason: str | None
) -> None:
    asked = spec(stabilization_seconds=0, min_replicas=9, max_replicas=9)
    decision = decide(asked, read, History(), current=7, now=now)
    assert decision.activity is activity
    assert decision.is_active == (activity is Activity.ACTIVE)
    assert decision.replicas == (7 if reason else 9)
    assert reason is None or decision.reason == reason


def follow(asked: Spec, backlogs: list[int], *, current: int = 0, step: float = 1.0) -> list[Decision]:
    """One decision after the other, each obeyed at once."""
    decisions: list[Decision] = []
    history = History()
    for number, backlog in enumerate(backlogs):
        now = NOW + number * step
        decision = decide(asked, figures(read_at=now, backlog=backlog), history, current=current, now=now)
        decisions.append(decision)
        current, history = decision.replicas, decision.history
    return decisions


def test_goes_down_to_the_most_wanted_within_the_window() -> None:
    replicas = [it.replicas for it in follow(spec(), [400] + [100] * 30 + [0] * 70)]
    assert (replicas[59], replicas[60], replicas[89], replicas[90]) == (20, 5, 5, 0)


def test_the_window_begins_anew_after_a_gap_in_the_figures() -> None:
    before = follow(spec(), [400] + [0] * 55)[-1]
    gap = decide(spec(), None, before.history, current=20, now=NOW + 56)
    after = decide(spec(), figures(read_at=NOW + 70), gap.history, current=gap.replicas, now=NOW + 70)
    assert after.replicas == 20


def test_without_a_noted_age_the_wait_is_estimated_by_how_long_the_backlog_exists() -> None:
    asked, read = spec(LATENCY), {"backlog": 10, "service_seconds": 1.0}
    first = decide(asked, figures(**read), History(), current=0, now=NOW)
    later = decide(asked, figures(read_at=NOW + 4, **read), first.history, current=0, now=NOW + 4)
    assert "oldest waits 4.0 s" in later.reason
    assert later.replicas > first.replicas


@pytest.mark.parametrize("count", ["backlog", "in_flight", "busy_slots", "unschedulable"])
def test_negative_figures_are_refused(count: str) -> None:
    with pytest.raises(ValueError, match="negative"):
        figures(**{count: -1})


@pytest.mark.parametrize(
    "fields",
    [{"min_replicas": -1}, {"min_replicas": 41}, {"max_replicas": 0}, {"slots": 0}, {"stabilization_seconds": -1}],
    ids=str,
)
def test_a_spec_without_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"replicas|slot|window"):
        spec(**fields)


@pytest.mark.parametrize(
    "make", [lambda: BacklogPerReplica(messages=0), lambda: Latency(seconds=0), lambda: BusySlots(percent=101)]
)
def test_a_target_without_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


UNHURRIED = settings(deadline=None)  # a busy machine does not make the policy slow
COUNTS = st.integers(min_value=0, max_value=3_000)
TARGETS = st.one_of(
    st.builds(BacklogPerReplica, messages=st.integers(1, 100)),
    st.builds(Latency, seconds=st.floats(0.1, 600)),
    st.builds(BusySlots, percent=st.integers(1, 100)),
)
BOUNDS = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(sorted)
PAUSES = st.sampled_from([None, *Pause])


@st.composite
def specs(draw: st.DrawFn, pauses: st.SearchStrategy[Pause | None] = PAUSES) -> Spec:
    low, high = draw(BOUNDS)
    return Spec(
        min_replicas=low, max_replicas=high, target=draw(TARGETS), slots=draw(st.integers(1, 16)),
        stabilization_seconds=draw(st.sampled_from([0.0, 1.0, 60.0])), pause=draw(pauses),
    )  # fmt: skip


READINGS = st.builds(
    Figures,
    read_at=st.just(NOW),
    backlog=COUNTS,
    in_flight=COUNTS,
    busy_slots=COUNTS,
    oldest_age_seconds=st.none() | st.floats(0, 1_000),
    service_seconds=st.none() | st.floats(0.001, 600),
    unschedulable=st.integers(0, 2),
)


@st.composite
def histories(draw: st.DrawFn, asked: Spec) -> History:
    """Wanted numbers as earlier decisions left them: within the bounds, and each larger than those after it."""
    numbers = sorted(draw(st.sets(st.integers(asked.min_replicas, asked.max_replicas), max_size=4)), reverse=True)
    wanted = tuple(Wanted(at=NOW - 5 + place, replicas=number) for place, number in enumerate(numbers))
    return History(wanted=wanted, waiting_since=draw(st.none() | st.floats(NOW - 100, NOW)))


@UNHURRIED
@given(st.data(), specs(pauses=st.none()), READINGS, st.integers(0, 60))
def test_never_outside_the_bounds(data: st.DataObject, asked: Spec, read: Figures, current: int) -> None:
    decision = decide(asked, read, data.draw(histories(asked)), current=current, now=NOW)
    assert asked.min_replicas <= decision.replicas <= asked.max_replicas


@UNHURRIED
@given(st.data(), specs(), READINGS, st.integers(0, 60), COUNTS)
def test_more_backlog_never_means_fewer_workers(
    data: st.DataObject, asked: Spec, read: Figures, current: int, more: int
) -> None:
    history = data.draw(histories(asked))
    fields = {name: getattr(read, name) for name in Figures.__dataclass_fields__}
    larger = Figures(**{**fields, "backlog": read.backlog + more})
    few, many = (decide(asked, it, history, current=current, now=NOW).replicas for it in (read, larger))
    assert many >= few


@UNHURRIED
@given(st.data(), specs(pauses=st.none()), READINGS, st.integers(0, 60))
def test_zero_only_when_nothing_is_ready_or_in_flight(
    data: st.DataObject, asked: Spec, read: Figures, current: int
) -> None:
    decision = decide(asked, read, data.draw(histories(asked)), current=current, now=NOW)
    assert decision.replicas > 0 or (read.backlog, read.in_flight, read.busy_slots) == (0, 0, 0)


@UNHURRIED
@given(st.lists(st.integers(0, 400), min_size=1, max_size=120))
def test_noise_under_a_load_that_returns_within_the_window_changes_nothing(noise: list[int]) -> None:
    backlogs = [400 if number % 50 == 0 else backlog for number, backlog in enumerate(noise)]
    assert {it.replicas for it in follow(spec(), backlogs)} == {20}


@UNHURRIED
@given(st.lists(COUNTS, max_size=50), st.integers(0, 60), specs(pauses=st.none()))
def test_returns_to_the_floor_once_it_is_quiet(backlogs: list[int], current: int, asked: Spec) -> None:
    assert follow(asked, [*backlogs, *[0] * 62], current=current)[-1].replicas == asked.min_replicas


@UNHURRIED
@given(specs(), READINGS, st.integers(0, 60), st.floats(10.01, 1e6))
def test_stale_figures_never_move_the_number(asked: Spec, read: Figures, current: int, age: float) -> None:
    decision = decide(asked, read, History(), current=current, now=NOW + age)
    assert (decision.replicas, decision.is_active) == (current, False)


@UNHURRIED
@given(st.lists(COUNTS, min_size=1, max_size=200))
def test_the_history_stays_small_and_strictly_falling(backlogs: list[int]) -> None:
    for decision in follow(spec(), backlogs):
        numbers = [one.replicas for one in decision.history.wanted]
        assert numbers == sorted(set(numbers), reverse=True)
