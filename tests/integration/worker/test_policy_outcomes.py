"""What a policy does when things go another way than planned: each cell of the table in docs/guides/policies.md.

Decisions are a real Redis'; calls are made and run in this process, as `celeriac.testing` does it, so that a test can
stand between any two steps. What needs a real worker is in the module beside this one.
"""

from __future__ import annotations

import datetime as dt
import enum
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import redis
from celery import Celery, chain, chord, group
from celery.exceptions import Ignore, Reject, TaskRevokedError
from celery.worker.request import Request
from tests.integration.worker.policy_cells import POLICIES, covers
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

import celeriac
from celeriac import testing
from celeriac.locks import scripts as lock_scripts
from celeriac.policies import keeping, settling
from celeriac.policies import scripts as policy_scripts
from celeriac.policies.kinds import coalesce, debounce
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


def claims(tasks: Tasks) -> list[str]:
    """The keys of policies that are left, but for those that only say what is over."""
    client, prefix = tasks.calls.client, tasks.calls.prefix
    over = (f"{prefix}celeriac:revoked:", f"{prefix}celeriac:throttle:")
    found = [it.decode() for it in client.keys(f"*{prefix}celeriac:*")]
    return [it for it in found if not it.startswith(over) and not it.endswith(":covered") and ":fence:" not in it]


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
    assert "its next run goes past its policy" in caplog.text
    assert keeping.keeper.run_once() == (0, 0)
    assert claims(tasks) == []


def test_a_call_with_an_eta_that_is_no_moment_is_published_for_its_worker_to_refuse(tasks: Tasks) -> None:
    tasks.of("Unique").apply_async(("ann",), eta="tomorrow")
    assert 299_000 < tasks.calls.client.pttl(keys.unique("Unique", "ann", prefix=tasks.calls.prefix)) <= 300_000


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


# --- forms of an ETA

MOMENT = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(hours=1)
ETAS: dict[str, dict[str, Any]] = {
    "seconds": {"countdown": 3600},
    "a fraction": {"countdown": 3600.5},
    "past": {"countdown": -5},
    "none": {"countdown": None, "eta": None},
    "zero": {"countdown": 0},
    "aware": {"eta": MOMENT},
    "aware elsewhere": {"eta": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))},
    "naive": {"eta": MOMENT.replace(tzinfo=None)},
    "text": {"eta": MOMENT.isoformat()},
    "text in UTC": {"eta": MOMENT.isoformat().replace("+00:00", "Z")},
    "naive text": {"eta": MOMENT.replace(tzinfo=None).isoformat()},
    "a date as text": {"eta": (MOMENT + dt.timedelta(days=1)).date().isoformat()},
    "a number": {"eta": 3600},
    "a span": {"eta": dt.timedelta(hours=1)},
    "a span as countdown": {"countdown": dt.timedelta(hours=1)},
    "text as countdown": {"countdown": "60"},
    "expires sooner": {"countdown": 3600, "expires": 60},
    "expires at a moment": {"expires": MOMENT},
    "expires at a text": {"expires": MOMENT.isoformat()},
    "expires later": {"expires": 86_400},
}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("options", ETAS.values(), ids=ETAS)
def test_a_claim_stands_as_much_longer_as_its_message_waits_in_every_form_that_celery_takes(
    tasks: Tasks, options: dict[str, Any], zone: str
) -> None:
    tasks.app.conf.timezone = zone

    @tasks.app.task(name="plain", shared=False)
    def plain(user: str) -> None:
        """Never runs."""

    try:
        plain.apply_async(("ann",), **options)
    except (TypeError, AttributeError, ValueError) as refused:
        with pytest.raises(type(refused)):
            tasks.of("Unique").apply_async(("ann",), **options)
        assert claims(tasks) == []
        return
    request = Request(celery_message(tasks), app=tasks.app, task=plain)
    now = dt.datetime.now(tz=dt.timezone.utc)
    waits = max(0.0, (request.eta - now).total_seconds()) if request.eta else 0.0
    ends = (request.expires - now).total_seconds() if request.expires else float("inf")
    tasks.of("Unique").apply_async(("ann",), **options)
    left = tasks.calls.client.pttl(keys.unique("Unique", "ann", prefix=tasks.calls.prefix)) / 1000
    assert left == pytest.approx(min(300 + waits, ends), abs=5)


def celery_message(tasks: Tasks) -> Any:
    """The message that was published, as a worker of Celery's gets it."""
    raw = tasks.calls.client.rpop(f"{tasks.calls.prefix}celery")
    return testing.calls._message(raw)


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
