"""What a call that differs does: by name, eagerly, in a canvas, with odd arguments.

The tests that name cells show what the table "What happens when" of docs/guides/policies.md says.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group
from tests.integration.worker.policies.calls import Tasks, claims, every_policy, settle
from tests.integration.worker.policies.policy_cells import covers

import celeriac
from celeriac.policies.values import Coalesce, Unique

# --- without a message


@covers("`apply`")
@every_policy
def test_apply_runs_every_call(tasks: Tasks, policy: str) -> None:
    assert [tasks.of(policy).apply(("ann", n)).get() for n in range(2)] == [0, 1]
    assert tasks.calls.client.keys(f"*{tasks.calls.prefix}*") == []


@covers("eager mode")
@every_policy
def test_eager_mode_runs_every_call(tasks: Tasks, policy: str) -> None:
    tasks.app.conf.task_always_eager = True
    assert [tasks.of(policy).delay("ann", n).get() for n in range(2)] == [0, 1]
    assert tasks.calls.client.keys(f"*{tasks.calls.prefix}*") == []


# --- canvas

CANVAS: dict[str, Callable[[Any], object]] = {
    "group": lambda task: group(task.s("ann", 1), task.s("ann", 2)).apply_async(),
    "chain": lambda task: chain(task.si("ann", 1), task.si("ann", 2)).apply_async(),
    "chord's header": lambda task: chord([task.s("ann", 1), task.s("ann", 2)], task.si("ann", 3)).apply_async(),
    "link": lambda task: task.apply_async(("ann", 1), link=task.si("ann", 2)),
}


@covers("group, chain, chord, `link`, `link_error`")
@pytest.mark.parametrize("canvas", CANVAS)
@every_policy
def test_what_hangs_together_is_published_and_runs(tasks: Tasks, policy: str, canvas: str) -> None:
    tasks.of(policy).delay("ann", 0)  # whose claim stands meanwhile
    CANVAS[canvas](tasks.of(policy))
    settle(tasks)
    ran = tasks.arguments(policy)
    # The last member of a chain, a callback and a chord's body are calls like any other when their turn comes: with
    # Debounce they are the newest of the burst that began with the first call.
    certain = {0, 1, 2} if canvas in {"group", "chord's header"} else {0, 1}
    newest = {1, 3} if canvas == "chord's header" else {1, 2}
    assert certain <= set(ran) or (policy == "Debounce" and newest <= set(ran))
    assert len(ran) == len(set(ran))


def test_an_errback_makes_a_call_be_published_too(tasks: Tasks) -> None:
    for _ in range(2):
        tasks.of("Throttle").apply_async(("ann",), link_error=tasks.of("Unique").si("ann"))
    assert len(tasks.calls.queued()) == 2


# --- sent by name


@covers("`app.send_task`")
@every_policy
def test_a_call_by_name_is_not_decided_when_called(tasks: Tasks, policy: str) -> None:
    tasks.of(policy).delay("ann", 0)
    for n in (1, 2):
        tasks.app.send_task(policy, ("ann", n))
    settle(tasks)
    assert sorted(tasks.arguments(policy)) == [0, 1, 2]


# --- what travels


class Size(str, enum.Enum):
    """A text that is an enumeration, as applications have them."""

    LARGE = "large"


TRAVELLERS: dict[str, Any] = {
    "a text": "x",
    "a tuple": (1, 2),
    "a text enumeration": Size.LARGE,
    "a dictionary with numbers for keys": {2: "b", 1: "a"},
    "bytes": b"x",
    "a lone surrogate": "\ud800",
    "a moment": dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc),
    "a long text": "x" * 5000,
}


@pytest.mark.parametrize("value", TRAVELLERS.values(), ids=TRAVELLERS)
@every_policy
def test_a_key_is_free_after_its_run_whatever_its_argument_was(tasks: Tasks, policy: str, value: Any) -> None:
    first = tasks.of(policy).delay(value, 1)
    settle(tasks)
    assert first.get(timeout=1) == 1
    if policy == "Throttle":
        assert tasks.of(policy).delay(value, 2).id == first.id
        return
    second = tasks.of(policy).delay(value, 2)
    settle(tasks)
    assert second.id != first.id
    assert tasks.arguments(policy) == [1, 2]
    assert claims(tasks) == []


@pytest.mark.parametrize("policy", ["Unique", "Coalesce"])
def test_a_key_that_cannot_be_computed_twice_is_computed_where_the_task_is_called(tasks: Tasks, policy: str) -> None:
    made: list[str] = []

    def key(user: str, value: Any = None) -> str:
        made.append(user)
        return f"{user}{len(made)}"

    policies = {"Unique": Unique(key), "Coalesce": Coalesce(key)}

    @tasks.app.task(base=celeriac.Task, bind=True, name="once", policy=policies[policy], shared=False, max_retries=1)
    def once(self: Any, user: str, value: Any = None) -> None:
        if self.request.retries == 0:
            raise self.retry(countdown=0)

    once.delay("ann")
    settle(tasks)
    assert made == ["ann"]
    assert claims(tasks) == []
