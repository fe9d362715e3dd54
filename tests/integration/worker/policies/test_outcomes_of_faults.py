"""The producer dies, Redis is away, or a claim is lost while its task runs.

The tests that name cells show what the table "What happens when" of docs/guides/policies.md says.
"""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import redis
from tests.integration.worker.policies.calls import SCRIPT_OF_CALL, Killed, Tasks, calling_policies, fail, settle
from tests.integration.worker.policies.policy_cells import covers
from tests.waiting import eventually

from celeriac.locks import scripts as lock_scripts
from celeriac.policies import keeping, settling
from celeriac.policies import scripts as policy_scripts
from celeriac.store import connections, keys

# --- the producer dies between claim and publish


@covers("the producer dies between claim and publish", *SCRIPT_OF_CALL)
@calling_policies
def test_a_producer_that_dies_before_or_after_the_decision_leaves_nothing_or_all(
    tasks: Tasks, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = SCRIPT_OF_CALL[policy]
    original = script.run

    def die(*_: Any) -> NoReturn:
        raise Killed

    def decide_and_die(*args: Any) -> NoReturn:
        original(*args)
        raise Killed

    monkeypatch.setattr(script, "run", die)
    with pytest.raises(Killed):
        tasks.of(policy).delay("ann", "before")
    assert settle(tasks) == []
    monkeypatch.setattr(script, "run", decide_and_die)
    with pytest.raises(Killed):
        tasks.of(policy).delay("ann", "after")
    monkeypatch.setattr(script, "run", original)
    settle(tasks)
    assert tasks.arguments(policy) == ["after"]


@covers("the producer dies between claim and publish", "Throttle", "Unique")
@pytest.mark.parametrize("policy", ["Throttle", "Unique"])
def test_without_a_redis_broker_the_claim_of_a_producer_that_died_lasts_ten_seconds(
    tasks: Tasks, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connections.Store(tasks.calls.client, tasks.calls.prefix, is_broker=False)

    def die(*_: Any, **__: Any) -> NoReturn:
        raise Killed

    with connections.replaced(tasks.app, store):
        with monkeypatch.context() as patch:
            patch.setattr(tasks.app, "send_task", die)
            patch.setattr(policy_scripts.FORGET, "run", die)
            with pytest.raises(Killed):
                tasks.of(policy).delay("ann")
        name = getattr(keys, policy.lower())(policy, "ann", prefix=tasks.calls.prefix)
        assert 0 < tasks.calls.client.pttl(name) <= 10_000
        tasks.calls.client.delete(name)  # ten seconds later
        tasks.of(policy).delay("ann")
        assert tasks.calls.client.pttl(name) > 10_000
    settle(tasks)
    assert len(tasks.ran) == 1


@covers("the producer dies between claim and publish", "Exclusive")
def test_an_exclusive_call_is_published_as_any_other(tasks: Tasks) -> None:
    tasks.of("Exclusive").delay("ann")
    assert tasks.calls.client.keys(f"*{tasks.calls.prefix}celeriac:*") == []


# --- Redis away


@covers("Redis away when called", *SCRIPT_OF_CALL)
@calling_policies
def test_a_call_that_cannot_be_decided_is_published(
    tasks: Tasks, policy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = fail(2, SCRIPT_OF_CALL[policy], monkeypatch)
    for n in range(2):
        tasks.of(policy).delay("ann", n)
    assert len(tasks.calls.queued()) == failures[0] == 2
    assert caplog.text.count("cannot be decided, it is published") == 2
    tasks.calls.run()
    assert tasks.arguments(policy) == [0, 1]


@covers("Redis away when called", "Exclusive")
def test_an_exclusive_call_needs_redis_as_the_broker_only(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_store(app: Any) -> NoReturn:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(connections, "store", fail_store)
    tasks.of("Exclusive").delay("ann")
    assert len(tasks.calls.queued()) == 1


@covers("Redis away when run", "Throttle")
def test_a_throttled_run_needs_no_redis(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.of("Throttle").delay("ann", 1)
    fail(100, policy_scripts.CLAIM, monkeypatch)
    tasks.calls.run()
    assert tasks.arguments("Throttle") == [1]


@covers("Redis away when run", "Unique", "Exclusive")
@pytest.mark.parametrize("policy", ["Unique", "Exclusive"])
def test_a_run_without_redis_goes_without_its_claim(
    tasks: Tasks, policy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.of(policy).delay("ann", 1)
    fail(100, {"Unique": policy_scripts.UNIQUE_START, "Exclusive": lock_scripts.ACQUIRE}[policy], monkeypatch)
    tasks.calls.run()
    assert tasks.arguments(policy) == [1]
    assert "cannot be decided, it runs" in caplog.text


@covers("Redis away when run", "Debounce", "Coalesce")
@pytest.mark.parametrize("policy", ["Debounce", "Coalesce"])
def test_a_message_that_stands_for_a_newer_call_waits_for_redis(
    tasks: Tasks, policy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(2):
        tasks.of(policy).delay("ann", n)
    script = {"Debounce": policy_scripts.FIRE, "Coalesce": policy_scripts.COALESCE_START}[policy]
    failures = fail(2, script, monkeypatch)
    settle(tasks)
    assert failures == [2]
    assert "waits for Redis" in caplog.text
    assert tasks.arguments(policy) == [1]


@pytest.mark.parametrize("policy", ["Debounce", "Coalesce"])
def test_a_message_that_waited_too_long_for_redis_is_given_back(
    tasks: Tasks, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling.time, "sleep", lambda _: None)
    for n in range(2):
        tasks.of(policy).delay("ann", n)
    script = {"Debounce": policy_scripts.FIRE, "Coalesce": policy_scripts.COALESCE_START}[policy]
    failures = fail(40, script, monkeypatch)
    eventually(lambda: (tasks.calls.run(), tasks.arguments(policy))[1], lambda it: it == [1], timeout=10)
    assert failures == [40]


# --- a claim lost


@covers("the claim or lock is lost during the run", "Unique", "Coalesce")
@pytest.mark.parametrize("policy", ["Unique", "Coalesce"])
def test_a_run_whose_claim_was_lost_goes_on_and_says_so(
    tasks: Tasks, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(task: Any, run: int) -> None:
        if run == 1:
            client = tasks.calls.client
            client.delete(*client.keys(f"{tasks.calls.prefix}celeriac:*"))
            keeping.keeper.run_once()
            assert task.delay("ann", 2).id != task.request.id

    tasks.step = lose
    first = tasks.of(policy).delay("ann", 1)
    settle(tasks)
    assert "was lost while its task ran" in caplog.text
    assert first.get(timeout=1) == 1
    assert tasks.arguments(policy) == [1, 2]


@covers("the claim or lock is lost during the run", "Throttle", "Debounce")
@pytest.mark.parametrize("policy", ["Throttle", "Debounce"])
def test_a_run_that_has_no_claim_cannot_lose_it(tasks: Tasks, policy: str) -> None:
    tasks.step = lambda *_: tasks.calls.client.flushdb()
    first = tasks.of(policy).delay("ann", 1)
    settle(tasks)
    assert first.get(timeout=1) == 1


@covers("the claim or lock is lost during the run", "Exclusive")
def test_a_run_whose_lock_was_lost_goes_on_and_says_so(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    tasks.step = lambda *_: tasks.calls.client.flushdb()
    first = tasks.of("Exclusive").delay("ann", 1)
    settle(tasks)
    assert first.get(timeout=1) == 1
    assert "was lost before its end" in caplog.text
