"""What a policy does when things go another way than planned: each cell of the table in docs/guides/policies.md.

Decisions are a real Redis'; calls are made and run in this process, as `celeriac.testing` does it, so that a test can
stand between any two steps. What needs a real worker is in the module beside this one.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import redis
from celery import Celery, chain, chord, group
from celery.exceptions import Ignore, Reject, TaskRevokedError
from tests.integration.worker.policy_cells import POLICIES, covers
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

import celeriac
from celeriac import testing
from celeriac.locks import scripts as lock_scripts
from celeriac.policies import coalesce, debounce, keeping, settling
from celeriac.policies import scripts as policy_scripts
from celeriac.policies.values import Coalesce, Debounce, Exclusive, Throttle, Unique
from celeriac.store import connections, keys

QUIET = 0.2
"""Debounce's quiet time here, seconds."""
SOON = 5.0
"""Nothing here is put off by longer, but the guards of `Coalesce` are."""

OPTIONS: dict[str, Any] = {
    "Throttle": Throttle("user", seconds=60),
    "Unique": Unique("user"),
    "Debounce": Debounce("user", seconds=QUIET),
    "Coalesce": Coalesce("user"),
    "Exclusive": Exclusive("user"),
}

every_policy = pytest.mark.parametrize("policy", POLICIES)


class Killed(BaseException):
    """Nothing that comes after it happens, as after SIGKILL: no code here or in the library goes on from it."""


class Tasks(SimpleNamespace):
    """An application with one task for each policy, what they ran with, and how they are called."""

    app: Celery
    calls: testing.Calls
    ran: list[tuple[str, Any]]
    step: Callable[[Any, int], Any]
    """What the tasks do after they have noted their run: given the task and the number of the run."""

    def of(self, policy: str) -> Any:
        return self.app.tasks[policy]

    def arguments(self, policy: str) -> list[Any]:
        return [value for name, value in self.ran if name == policy]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    it = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no").start()
    yield it
    it.kill()


@pytest.fixture
def tasks(server: RedisServer) -> Iterator[Tasks]:
    app = Celery("cells", set_as_current=False, broker="memory://")
    made = Tasks(app=app, ran=[], step=lambda *_: None)

    def body(self: Any, user: str, value: Any = None) -> Any:
        made.ran.append((self.name, value))
        made.step(self, len(made.ran))
        return value

    for name, policy in OPTIONS.items():
        app.task(base=celeriac.Task, bind=True, name=name, policy=policy, shared=False, max_retries=3)(body)
    with testing.policies(app, redis_url=server.url) as made.calls:
        yield made


def settle(tasks: Tasks) -> list[Any]:
    """Run everything, also what a quiet time or a countdown holds back; not what waits for a worker's death."""
    ran = tasks.calls.run()
    while soon := [it for it in tasks.calls.due() if it < tasks.calls.clock.now + SOON]:
        ran += tasks.calls.advance(min(soon) - tasks.calls.clock.now)
    return ran


def fail(times: int, script: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a script fail as it does while Redis is away, so many times; the number of failures so far."""
    original, failures = script.run, [0]

    def run(*args: Any) -> Any:
        if failures[0] < times:
            failures[0] += 1
            raise redis.ConnectionError("away")
        return original(*args)

    monkeypatch.setattr(script, "run", run)
    return failures


SCRIPT_OF_CALL = {
    "Throttle": policy_scripts.CLAIM,
    "Unique": policy_scripts.CLAIM,
    "Debounce": policy_scripts.DEBOUNCE,
    "Coalesce": policy_scripts.COALESCE,
}
calling_policies = pytest.mark.parametrize("policy", SCRIPT_OF_CALL)

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


# --- ETA


@covers("ETA, countdown")
@pytest.mark.parametrize("option", ["countdown", "eta"])
@every_policy
def test_an_eta_is_kept(tasks: Tasks, policy: str, option: str) -> None:
    seconds = 2 * QUIET
    moment = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(seconds=seconds)
    began = tasks.calls.clock.now
    first = tasks.of(policy).apply_async(("ann", 1), **{option: seconds if option == "countdown" else moment})
    second = tasks.of(policy).apply_async(("ann", 2), **{option: seconds if option == "countdown" else moment})
    ran_at: list[float] = []
    tasks.step = lambda *_: ran_at.append(tasks.calls.clock.now)
    settle(tasks)
    assert min(ran_at) - began >= seconds - 0.005  # the ETA is written down in microseconds, Redis counts in ms
    expected = {"Throttle": [1], "Unique": [1], "Debounce": [2], "Coalesce": [2], "Exclusive": [1, 2]}[policy]
    assert tasks.arguments(policy) == expected
    assert (first.id == second.id) is (policy != "Exclusive")


def test_an_eta_comes_on_top_of_a_claim(tasks: Tasks) -> None:
    tasks.of("Unique").apply_async(("ann",), countdown=1000)
    left = tasks.calls.client.pttl(keys.unique("Unique", "ann", prefix=tasks.calls.prefix))
    assert 1_200_000 < left <= 1_300_000


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


# --- sent by name


@covers("`app.send_task`")
@every_policy
def test_a_call_by_name_is_not_decided_when_called(tasks: Tasks, policy: str) -> None:
    tasks.of(policy).delay("ann", 0)
    for n in (1, 2):
        tasks.app.send_task(policy, ("ann", n))
    settle(tasks)
    assert sorted(tasks.arguments(policy)) == [0, 1, 2]


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
    if first_to_start == "the first":
        assert tasks.arguments("Unique") == [1]
        assert second.state == "REVOKED"
    else:
        # It had the claim, and the first message is only known when it comes: in doubt it runs twice.
        assert tasks.arguments("Unique") == [2, 1]


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
