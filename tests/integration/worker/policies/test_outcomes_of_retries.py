"""A run that is retried, rejected or ignored: whose claim ends, and whose stays.

The tests that name cells show what the table "What happens when" of docs/guides/policies.md says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject
from tests.integration.worker.policies.calls import OPTIONS, QUIET, Tasks, claims, every_policy, settle
from tests.integration.worker.policies.policy_cells import covers

import celeriac
from celeriac.policies import keeping
from celeriac.policies.values import Unique
from celeriac.store import keys

# --- retry


def retried(how: str, policy: str, tasks: Tasks, meanwhile: list[Any]) -> Any:
    """A task whose first run is retried, in one of two ways; it is called again while it waits for that."""

    class Retried(celeriac.Task):
        def on_retry(self, *_: Any) -> None:
            meanwhile.append(self.delay("ann", 2))

    def body(self: Any, user: str, value: Any = None) -> Any:
        tasks.ran.append((policy, value))
        if len(tasks.ran) == 1:
            if how == "retry":
                raise self.retry(countdown=QUIET)
            raise ConnectionError
        return value

    options: dict[str, Any] = {"retry_backoff": False, "default_retry_delay": QUIET}
    if how == "autoretry_for":
        options["autoretry_for"] = (ConnectionError,)
    name = f"{policy}-again"
    make = tasks.app.task(base=Retried, bind=True, name=name, policy=OPTIONS[policy], shared=False, **options)
    return make(body)


@covers("`retry`, `autoretry_for`")
@pytest.mark.parametrize("how", ["retry", "autoretry_for"])
@every_policy
def test_a_retry_is_published_and_is_still_the_same_call(tasks: Tasks, policy: str, how: str) -> None:
    meanwhile: list[Any] = []
    first = retried(how, policy, tasks, meanwhile).delay("ann", 1)
    settle(tasks)
    assert first.get(timeout=1) == 1
    ran = tasks.arguments(policy)
    if policy in {"Throttle", "Unique"}:  # the window stands; a call that waits for its retry is in the queue
        assert ran == [1, 1]
    elif policy == "Coalesce":  # a call that waits for its retry is running
        assert ran == [1, 1, 2]
    else:  # the retry has left the burst, and the lock is free meanwhile
        assert sorted(ran) == [1, 1, 2]
    assert (meanwhile[0].id == first.id) is (policy in {"Throttle", "Unique"})


def test_the_retry_of_a_call_that_was_unique_until_its_start_waits_uniquely(tasks: Tasks) -> None:
    def retry(task: Any, run: int) -> None:
        if run == 1:
            raise task.retry(countdown=QUIET)

    tasks.step = retry

    @tasks.app.task(base=celeriac.Task, bind=True, name="until-start", policy=Unique("user", until="start"))
    def task(self: Any, user: str, value: Any = None) -> None:
        tasks.ran.append(("until-start", value))
        tasks.step(self, len(tasks.ran))

    first = task.delay("ann", 1)
    tasks.calls.run()
    assert task.delay("ann", 2).id == first.id
    settle(tasks)
    assert tasks.arguments("until-start") == [1, 1]


# --- Ignore, Reject


def raises(*errors: BaseException) -> Callable[[Any, int], None]:
    """A step that raises the nth error in the nth run, and nothing later."""

    def step(task: Any, run: int) -> None:
        if run <= len(errors):
            raise errors[run - 1]

    return step


@covers("the task raises `Ignore` or `Reject`")
@pytest.mark.parametrize("error", [Ignore(), Reject(requeue=False)], ids=["Ignore", "Reject"])
@every_policy
def test_a_run_that_is_given_up_ends_its_claim(tasks: Tasks, policy: str, error: Exception) -> None:
    tasks.step = raises(error)
    tasks.of(policy).delay("ann", 1)
    settle(tasks)
    tasks.of(policy).delay("ann", 2)
    settle(tasks)
    assert tasks.arguments(policy) == ([1] if policy == "Throttle" else [1, 2])


@covers("the task raises `Reject(requeue=True)`")
@every_policy
def test_a_run_that_comes_back_keeps_its_claim(tasks: Tasks, policy: str) -> None:
    meanwhile: list[Any] = []

    def step(task: Any, run: int) -> None:
        if run == 1:
            raise Reject(requeue=True)
        if run == 2:
            meanwhile.append(task.delay("ann", 2))

    tasks.step = step
    first = tasks.of(policy).delay("ann", 1)
    settle(tasks)
    expected = [1, 1] if policy in {"Throttle", "Unique"} else [1, 1, 2]
    assert tasks.arguments(policy) == expected
    assert first.get(timeout=1) == 1


# --- a retry with other arguments


@pytest.mark.parametrize("policy", ["Unique", "Coalesce"])
def test_a_retry_with_another_key_leaves_the_first_one_free(tasks: Tasks, policy: str) -> None:
    def step(task: Any, run: int) -> None:
        if run == 1:
            raise task.retry(args=("bob", 2), countdown=QUIET)

    tasks.step = step
    first = tasks.of(policy).delay("ann", 1)
    tasks.calls.run()
    assert tasks.of(policy).delay("ann", 3).id != first.id
    waiting = tasks.of(policy).delay("bob", 4)
    assert (waiting.id == first.id) is (
        policy == "Unique"
    )  # with Coalesce the retry is running, and a call waits for it
    settle(tasks)
    assert sorted(tasks.arguments(policy)) == ([1, 2, 3] if policy == "Unique" else [1, 2, 3, 4])
    assert keeping.keeper.run_once() == (0, 0)
    assert claims(tasks) == []


@pytest.mark.parametrize("policy", ["Unique", "Coalesce"])
def test_a_retry_with_arguments_that_have_no_key_runs_past_the_policy(
    tasks: Tasks, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    @tasks.app.task(base=celeriac.Task, bind=True, name="odd", policy=type(OPTIONS[policy])("{user[id]}"), shared=False)
    def odd(self: Any, user: Any) -> Any:
        if "id" in user:
            raise self.retry(args=({"name": "ann"},), countdown=0)
        return user

    result = odd.delay({"id": 1})
    settle(tasks)
    assert result.get(timeout=1) == {"name": "ann"}
    assert "its next run bypasses its policy" in caplog.text
    assert keeping.keeper.run_once() == (0, 0)
    assert claims(tasks) == []


def test_a_call_with_an_eta_that_is_no_moment_is_published_for_its_worker_to_refuse(tasks: Tasks) -> None:
    tasks.of("Unique").apply_async(("ann",), eta="tomorrow")
    assert 299_000 < tasks.calls.client.pttl(keys.unique("Unique", "ann", prefix=tasks.calls.prefix)) <= 300_000
