"""What a policy offers beside publishing: who has a key, freeing it, duplicates that raise, options of one call."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import celeriac
from celeriac import testing
from celeriac.policies.values import Coalesce, Debounce, Exclusive, Throttle, Unique

POLICIES: dict[str, Any] = {
    "Throttle": Throttle("user", seconds=60),
    "Unique": Unique("user"),
    "Debounce": Debounce("user", seconds=5),
    "Coalesce": Coalesce("user"),
    "Raising": Throttle("user", seconds=60, on_duplicate="raise"),
    "Raising unique": Unique("user", on_duplicate="raise"),
    "Extended": Throttle("user", seconds=60, extend=True),
    "Plain": None,
}


class Made:
    """An application with one task for each policy, and what its tasks do in a run."""

    def __init__(self) -> None:
        self.app = Celery("asking", set_as_current=False, broker="memory://")
        self.in_run: Any = None
        self.ran: list[tuple[str, Any]] = []

        def body(running: Any, user: Any, value: Any = None) -> Any:
            self.ran.append((running.name, value))
            return None if self.in_run is None else self.in_run(running)

        for name, policy in POLICIES.items():
            self.app.task(base=celeriac.Task, bind=True, name=name, policy=policy, shared=False)(body)

    def of(self, name: str) -> Any:
        return self.app.tasks[name]


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def calls(made: Made) -> Iterator[testing.Calls]:
    with testing.policies(made.app) as it:
        yield it


def phases(task: Any, key: object = "ann") -> list[tuple[str, str]]:
    return [(it.phase, it.task_id) for it in celeriac.find_claims(task, key)]


# --- who has a key


@pytest.mark.parametrize(
    ("policy", "phase", "seconds"),
    [("Throttle", "window", 60), ("Unique", "waiting", 300), ("Debounce", "waiting", 5), ("Coalesce", "waiting", None)],
)
@pytest.mark.usefixtures("calls")
def test_the_call_that_holds_back_others_is_found_with_its_time(
    made: Made, policy: str, phase: str, seconds: float | None
) -> None:
    assert celeriac.find_claims(made.of(policy), "ann") == []
    call = made.of(policy).delay("ann")
    (found,) = celeriac.find_claims(made.of(policy), "ann")
    assert (found.policy, found.phase, found.task_id) == (policy, phase, call.id)
    assert found.seconds == (None if seconds is None else pytest.approx(seconds, abs=0.1))
    assert celeriac.find_claims(made.of(policy), "bob") == []


@pytest.mark.parametrize("policy", ["Unique", "Coalesce"])
def test_a_run_is_found_and_what_waits_for_it(made: Made, calls: testing.Calls, policy: str) -> None:
    seen: list[Any] = []

    def look(running: Any) -> None:
        if len(made.ran) == 1:
            running.delay("ann", 2)
            seen.extend(phases(running))

    made.in_run = look
    first = made.of(policy).delay("ann", 1)
    calls.run()
    assert seen[0] == ("running", first.id)
    assert [phase for phase, _ in seen] == (["running"] if policy == "Unique" else ["running", "waiting"])
    assert phases(made.of(policy)) == []


@pytest.mark.usefixtures("calls")
def test_a_key_is_asked_for_as_it_was_given(made: Made) -> None:
    made.of("Throttle").delay((1, "a"))
    assert len(celeriac.find_claims(made.of("Throttle"), [1, "a"])) == 1


@pytest.mark.usefixtures("calls")
def test_a_task_without_a_policy_has_no_claims(made: Made) -> None:
    assert celeriac.find_claims(made.of("Plain"), "ann") == []
    assert celeriac.clear_claims(made.of("Plain"), "ann") == []


# --- freeing a key


@pytest.mark.parametrize("policy", ["Throttle", "Unique"])
def test_a_key_that_was_freed_takes_the_next_call(made: Made, calls: testing.Calls, policy: str) -> None:
    first = made.of(policy).delay("ann", 1)
    assert [it.task_id for it in celeriac.clear_claims(made.of(policy), "ann")] == [first.id]
    second = made.of(policy).delay("ann", 2)
    assert second.id != first.id
    calls.run()
    # Both messages are in the queue; of a unique task the first to start does the work of both.
    assert [value for _, value in made.ran] == ([1, 2] if policy == "Throttle" else [1])


@pytest.mark.parametrize("policy", ["Debounce", "Coalesce"])
def test_a_call_that_only_redis_has_is_not_cleared_away(made: Made, calls: testing.Calls, policy: str) -> None:
    made.of(policy).delay("ann", 1)
    made.of(policy).delay("ann", 2)
    assert celeriac.clear_claims(made.of(policy), "ann") == []
    calls.advance(6)
    assert [value for _, value in made.ran] == [2]


# --- duplicates that raise


@pytest.mark.parametrize("policy", ["Raising", "Raising unique"])
def test_a_dropped_call_may_raise_and_names_the_call_that_stands(made: Made, calls: testing.Calls, policy: str) -> None:
    first = made.of(policy).delay("ann")
    with pytest.raises(celeriac.DuplicateCallError) as raised:
        made.of(policy).delay("ann")
    assert (raised.value.task, raised.value.key, raised.value.task_id) == (policy, "ann", first.id)
    assert first.id in str(raised.value)
    assert len(calls.dropped) == 1
    assert made.of(policy).apply_async(("ann",), task_id=first.id).id == first.id  # the same call, sent again
    assert str(copy.copy(raised.value)) == str(raised.value)  # as Celery's result backends make errors anew


# --- a window that calls prolong


def test_a_window_that_is_extended_ends_when_its_key_has_been_quiet(made: Made, calls: testing.Calls) -> None:
    task = made.of("Extended")
    first = task.delay("ann")
    for _ in range(5):
        calls.advance(50)
        assert task.delay("ann").id == first.id
    calls.advance(61)
    assert task.delay("ann").id != first.id


# --- options of one call


def test_a_call_may_go_past_the_policy(made: Made, calls: testing.Calls) -> None:
    task = made.of("Throttle")
    task.delay("ann")
    for _ in range(2):
        task.apply_async(("ann",), policy=None)
    assert len(calls.queued()) == 3
    assert made.of("Plain").apply_async(("ann",), policy=None)


def test_a_call_may_have_options_of_its_own(made: Made, calls: testing.Calls) -> None:
    task = made.of("Throttle")
    first = task.apply_async(("ann",), policy=dataclasses.replace(POLICIES["Throttle"], seconds=5))
    calls.advance(6)
    assert task.delay("ann").id != first.id
    with pytest.raises(celeriac.DuplicateCallError):
        task.apply_async(("ann",), policy=dataclasses.replace(POLICIES["Throttle"], on_duplicate="raise"))


def test_a_call_with_a_key_of_its_own_is_free_after_its_run(made: Made, calls: testing.Calls) -> None:
    task, policy = made.of("Unique"), Unique("{user}/{value}")
    first = task.apply_async(("ann", 1), policy=policy)
    assert task.apply_async(("ann", 1), policy=policy).id == first.id
    calls.run()
    assert task.apply_async(("ann", 1), policy=policy).id != first.id


@pytest.mark.parametrize(
    ("task", "policy", "message"),
    [
        ("Throttle", Unique("user"), "must be None or a Throttle with the same `until`"),
        ("Throttle", "none", "must be None or a Throttle"),
        ("Unique", Unique("user", until="start"), "must be None or a Unique with the same `until`"),
        ("Throttle", Throttle("usr", seconds=1), "it has no parameter 'usr'"),
        ("Plain", Throttle("user", seconds=1), "it must be None"),
        ("Throttle", Exclusive("user"), "must be None or a Throttle"),
    ],
)
@pytest.mark.usefixtures("calls")
def test_a_policy_that_does_not_fit_a_call_is_refused(made: Made, task: str, policy: Any, message: str) -> None:
    with pytest.raises(celeriac.PolicyError, match=message):
        made.of(task).apply_async(("ann",), policy=policy)
