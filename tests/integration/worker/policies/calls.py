"""Calls of one task for each policy, made and run in the process of the test, with the decisions of a real Redis.

A test can act between any two steps, as with `celeriac.testing`. Tests that need a real worker are in
`test_policy_workers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from tests.integration.worker.policies.policy_cells import POLICIES

from celeriac import testing
from celeriac.policies import scripts as policy_scripts
from celeriac.policies.values import Coalesce, Debounce, Exclusive, Throttle, Unique

QUIET = 0.2
"""The quiet time of Debounce in these tests, in seconds."""
SOON = 5.0
"""No call of these tests is delayed for longer; the guards of `Coalesce` are."""

OPTIONS: dict[str, Any] = {
    "Throttle": Throttle("user", seconds=60),
    "Unique": Unique("user"),
    "Debounce": Debounce("user", seconds=QUIET),
    "Coalesce": Coalesce("user"),
    "Exclusive": Exclusive("user"),
}

every_policy = pytest.mark.parametrize("policy", POLICIES)


class Killed(BaseException):
    """Ends a process as SIGKILL does: nothing in the tests or in the library catches it."""


class Tasks(SimpleNamespace):
    """An application with one task for each policy, what they ran with, and how they are called."""

    app: Celery
    calls: testing.Calls
    ran: list[tuple[str, Any]]
    step: Callable[[Any, int], Any]
    """What a task does after it has recorded its run. It gets the task and the number of the run."""

    def of(self, policy: str) -> Any:
        return self.app.tasks[policy]

    def arguments(self, policy: str) -> list[Any]:
        return [value for name, value in self.ran if name == policy]


def settle(tasks: Tasks) -> list[Any]:
    """Run every call, also after a quiet time or a countdown, but not those that wait for the death of a worker."""
    ran = tasks.calls.run()
    while soon := [it for it in tasks.calls.due() if it < tasks.calls.clock.now + SOON]:
        ran += tasks.calls.advance(min(soon) - tasks.calls.clock.now)
    return ran


def fail(times: int, script: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a script fail `times` times as it does while Redis is away. The returned list holds the failures so far."""
    original, failures = script.run, [0]

    def run(*args: Any) -> Any:
        if failures[0] < times:
            failures[0] += 1
            raise redis.ConnectionError("away")
        return original(*args)

    monkeypatch.setattr(script, "run", run)
    return failures


def claims(tasks: Tasks) -> list[str]:
    """The keys of policies that are left, except those that only record what has ended."""
    client, prefix = tasks.calls.client, tasks.calls.prefix
    over = (f"{prefix}celeriac:revoked:", f"{prefix}celeriac:throttle:")
    found = [it.decode() for it in client.keys(f"*{prefix}celeriac:*")]
    return [it for it in found if not it.startswith(over) and not it.endswith(":covered") and ":fence:" not in it]


SCRIPT_OF_CALL = {
    "Throttle": policy_scripts.CLAIM,
    "Unique": policy_scripts.CLAIM,
    "Debounce": policy_scripts.DEBOUNCE,
    "Coalesce": policy_scripts.COALESCE,
}
calling_policies = pytest.mark.parametrize("policy", SCRIPT_OF_CALL)
