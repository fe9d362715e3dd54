"""How long claims last, who has one, and calls that overtake each other.

The tests that name cells show what the table "What happens when" of docs/guides/policies.md says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.worker.policies.calls import QUIET, Tasks, settle
from tests.waiting import eventually

import celeriac
from celeriac.policies import keeping
from celeriac.policies.kinds import coalesce, debounce
from celeriac.policies.values import Debounce
from celeriac.store import keys

# --- claims and their ends


def test_a_run_renews_its_claim(tasks: Tasks) -> None:
    def look(task: Any, run: int) -> None:
        name = keys.unique("Unique", "ann", prefix=tasks.calls.prefix)
        tasks.calls.client.pexpire(name, 5000)
        assert keeping.keeper.run_once() == (1, 0)
        assert tasks.calls.client.pttl(name) > 20_000

    tasks.step = look
    result = tasks.of("Unique").delay("ann")
    tasks.calls.run()
    assert result.successful()
    assert keeping.keeper.run_once() == (0, 0)


@pytest.mark.parametrize("first_to_start", ["the first", "the second"])
def test_in_a_queue_longer_than_its_claim_one_of_two_runs(tasks: Tasks, first_to_start: str) -> None:
    task, client = tasks.of("Unique"), tasks.calls.client
    first = task.delay("ann", 1)
    client.delete(keys.unique("Unique", "ann", prefix=tasks.calls.prefix))  # its claim has run out
    second = task.delay("ann", 2)
    assert first.id != second.id
    assert len(tasks.calls.queued()) == 2
    if first_to_start == "the second":
        queue = f"{tasks.calls.prefix}celery"
        client.rpush(queue, client.lpop(queue))
    tasks.calls.run()
    ran, skipped = (1, second) if first_to_start == "the first" else (2, first)
    assert tasks.arguments("Unique") == [ran]
    assert skipped.state == "REVOKED"
    assert client.keys(f"{tasks.calls.prefix}celeriac:unique:*") == []


def test_a_call_made_from_within_its_own_run_waits_for_it(tasks: Tasks) -> None:
    def call(task: Any, run: int) -> None:
        if run == 1:
            ids = {task.delay("ann", n).id for n in range(3)}
            assert len(ids) == 1
            assert task.request.id not in ids

    tasks.step = call
    tasks.of("Coalesce").delay("ann", "first")
    tasks.calls.run()
    assert tasks.arguments("Coalesce") == ["first", 2]


def test_a_guard_publishes_what_waits_for_a_run_that_never_ends(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalesce, "RUN_SECONDS", 0.3)
    monkeypatch.setattr(keeping.keeper, "keep", lambda *_: None)
    monkeypatch.setattr(coalesce, "end", lambda *_, **__: None)  # its worker was killed, and it was not acked late

    def call(task: Any, run: int) -> None:
        if run == 1:
            for n in range(3):
                task.delay("ann", n)

    tasks.step = call
    tasks.of("Coalesce").delay("ann", "first")
    eventually(lambda: (tasks.calls.run(), tasks.arguments("Coalesce"))[1], lambda it: it == ["first", 2], timeout=10)


def test_a_lost_waker_is_replaced_by_the_next_late_call(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debounce, "LATE_SECONDS", 0.05)
    task = tasks.of("Debounce")
    first = task.delay("ann", 1)
    tasks.calls.client.delete(f"{tasks.calls.prefix}celery")  # purged
    tasks.calls.clock.advance(QUIET + 0.2)
    assert tasks.calls.run() == []
    assert task.delay("ann", 2).id == first.id
    settle(tasks)
    assert tasks.arguments("Debounce") == [2]


def test_bursts_are_told_apart_by_key_and_bounded_by_max_wait(tasks: Tasks) -> None:
    @tasks.app.task(base=celeriac.Task, name="bounded", policy=Debounce("user", seconds=QUIET, max_wait=2 * QUIET))
    def bounded(user: str, value: Any = None) -> None:
        tasks.ran.append((user, value))

    began = tasks.calls.clock.now
    bounded.delay("bob", "once")
    for n in itertools.count():
        bounded.delay("ann", n)
        tasks.calls.advance(QUIET / 4)
        if tasks.arguments("ann"):
            break
        assert tasks.calls.clock.now - began < 10
    assert tasks.calls.clock.now - began >= 2 * QUIET - 0.005
    assert tasks.arguments("bob") == ["once"]


# --- a call that overtakes


def meanwhile(tasks: Tasks, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something once, between the question which id a record has and the script that writes into it."""
    client, original = tasks.calls.client, tasks.calls.client.hget

    def hget(*args: Any) -> Any:
        found = original(*args)
        monkeypatch.setattr(client, "hget", original)
        act()
        return found

    monkeypatch.setattr(client, "hget", hget)


def test_a_call_that_asks_who_waits_just_as_that_one_starts_gets_an_id_of_its_own(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, made = tasks.of("Coalesce"), []

    def step(running: Any, run: int) -> None:
        if run == 1:
            meanwhile(tasks, lambda: None, monkeypatch)
            made.append(task.delay("ann", 2))

    tasks.step = step
    first = task.delay("ann", 1)
    meanwhile(tasks, tasks.calls.run, monkeypatch)  # it starts, and ends
    second = task.delay("ann", 3)
    assert len({first.id, second.id, made[0].id}) == 3 or second.id == made[0].id
    settle(tasks)
    assert tasks.arguments("Coalesce")[-1] == 3
    assert second.get(timeout=1) == 3


def test_one_id_never_runs_twice_at_once(tasks: Tasks) -> None:
    """Also not where the application gives two calls the same id."""
    task, inside, most = tasks.of("Coalesce"), [], []

    def step(running: Any, run: int) -> None:
        inside.append(running.request.id)
        most.append(len(inside))
        if run == 1:
            task.apply_async(("ann", 2), task_id="mine")
            tasks.calls.run()  # another worker, meanwhile
        inside.pop()

    tasks.step = step
    task.apply_async(("ann", 1), task_id="mine")
    settle(tasks)
    assert max(most) == 1
    assert tasks.arguments("Coalesce") == [1, 2]


def test_a_call_that_asks_for_the_burst_just_as_it_fires_begins_another_one(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tasks.of("Debounce")
    first = task.delay("ann", 1)
    meanwhile(tasks, lambda: settle(tasks), monkeypatch)
    second = task.delay("ann", 2)
    assert second.id != first.id
    settle(tasks)
    assert tasks.arguments("Debounce") == [1, 2]
    assert second.get(timeout=1) == 2


# --- who has a key, asked of a real Redis


def test_a_run_is_found_by_its_key_and_its_lock_can_be_freed(tasks: Tasks) -> None:
    seen: list[Any] = []

    def look(task: Any, run: int) -> None:
        seen.extend(celeriac.find_claims(task, "ann"))
        celeriac.clear_claims(task, "ann")
        seen.append(celeriac.find_claims(task, "ann"))

    tasks.step = look
    result = tasks.of("Exclusive").delay("ann", 1)
    settle(tasks)
    found, after = seen
    assert (found.policy, found.phase, found.task_id) == ("Exclusive", "running", result.id)
    assert 0 < found.seconds <= 30
    assert after == []
