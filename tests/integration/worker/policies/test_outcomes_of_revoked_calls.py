"""Calls that are revoked or that expire, and the calls after them.

The tests that name cells show what the table "What happens when" of docs/guides/policies.md says.
"""

from __future__ import annotations

from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from tests.integration.worker.policies.calls import Tasks, claims, every_policy, settle
from tests.integration.worker.policies.policy_cells import covers

# --- revoked, expired


@covers("revoked before it starts")
@every_policy
def test_a_revoked_call_frees_its_key_except_for_a_window(tasks: Tasks, policy: str) -> None:
    first = tasks.of(policy).delay("ann", 1)
    tasks.calls.revoke(first.id)
    settle(tasks)
    with pytest.raises(TaskRevokedError):
        first.get(timeout=1)
    second = tasks.of(policy).delay("ann", 2)
    settle(tasks)
    assert tasks.arguments(policy) == ([] if policy == "Throttle" else [2])
    assert (second.id == first.id) is (policy == "Throttle")


@covers("expires before it starts")
@every_policy
def test_an_expired_call_frees_its_key_except_for_a_window(tasks: Tasks, policy: str) -> None:
    # Debounce publishes it when the quiet time is over, and that is when it has expired.
    first = tasks.of(policy).apply_async(("ann", 1), expires=0.01)
    tasks.calls.clock.advance(0.05)
    settle(tasks)
    assert first.state == "REVOKED"
    tasks.of(policy).delay("ann", 2)
    settle(tasks)
    assert tasks.arguments(policy) == ([] if policy == "Throttle" else [2])


# --- revoked or expired, then called again


@pytest.mark.parametrize("policy", ["Unique", "Debounce", "Coalesce"])
@pytest.mark.parametrize("meets", ["nothing", "a run"])
def test_a_call_after_a_waiting_one_was_revoked_runs_under_its_own_id(tasks: Tasks, policy: str, meets: str) -> None:
    made: list[Any] = []

    def call_and_revoke(task: Any = None, run: int = 1) -> None:
        if run == 1:
            made.append(tasks.of(policy).delay("ann", 1))
            tasks.calls.revoke(made[0].id)
            made.append(tasks.of(policy).delay("ann", 2))

    if meets == "a run":
        tasks.step = call_and_revoke
        tasks.of(policy).delay("bob" if policy == "Unique" else "ann", 0)
        tasks.calls.run() if policy != "Debounce" else settle(tasks)
    else:
        call_and_revoke()
    first, second = made
    assert first.id != second.id
    settle(tasks)
    assert second.get(timeout=1) == 2
    assert first.state == "REVOKED"
    assert 1 not in tasks.arguments(policy)
    assert claims(tasks) == []


def test_a_revoked_call_does_not_run_where_its_worker_was_not_told(tasks: Tasks) -> None:
    first = tasks.of("Unique").delay("ann", 1)
    tasks.calls.revoke(first.id)
    second = tasks.of("Unique").delay("ann", 2)
    tasks.calls._revoked.clear()  # a worker that started after it was revoked
    settle(tasks)
    assert tasks.arguments("Unique") == [2]
    assert first.state == "REVOKED"
    assert second.get(timeout=1) == 2


@pytest.mark.parametrize("policy", ["Unique", "Coalesce"])
def test_a_call_after_a_waiting_one_has_expired_is_published(tasks: Tasks, policy: str) -> None:
    first = tasks.of(policy).apply_async(("ann", 1), expires=0.05)
    tasks.calls.clock.advance(0.2)
    second = tasks.of(policy).delay("ann", 2)
    assert second.id != first.id
    settle(tasks)
    assert first.state == "REVOKED"
    assert second.get(timeout=1) == 2
    assert tasks.arguments(policy) == [2]


@pytest.mark.parametrize("meets", ["nothing", "a run"])
def test_a_message_that_expires_does_not_take_the_newer_call_along_that_it_stands_for(tasks: Tasks, meets: str) -> None:
    task = tasks.of("Coalesce")

    def call(_: Any = None, run: int = 1) -> None:
        if run == 1:
            task.apply_async(("ann", 1), expires=0.1)
            task.delay("ann", 2)
            tasks.calls.clock.advance(0.2)

    if meets == "a run":
        tasks.step = call
        task.delay("ann", 0)
    else:
        call()
    settle(tasks)
    assert tasks.arguments("Coalesce")[-1] == 2
    assert claims(tasks) == []
