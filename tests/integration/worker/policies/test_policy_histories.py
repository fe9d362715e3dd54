"""Policies never lose work: random histories of calls, deliveries, deaths and time, on the scripts' model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject
from hypothesis import given, settings
from hypothesis import strategies as st

import celeriac
from celeriac import testing
from celeriac.policies import keeping

QUIET, BOUND = 2.0, 5.0
OPTIONS: dict[str, celeriac.Throttle | celeriac.Unique | celeriac.Debounce | celeriac.Coalesce] = {
    "Throttle": celeriac.Throttle(seconds=60),
    "Unique": celeriac.Unique(claim_seconds=20),
    "Unique until start": celeriac.Unique(until="start", claim_seconds=20),
    "Debounce": celeriac.Debounce(seconds=QUIET, max_wait=BOUND),
    "Coalesce": celeriac.Coalesce(claim_seconds=20),
}

unhurried = settings(deadline=None, max_examples=40, print_blob=True, database=None)

CALL, DELIVER, DIE, CALL_IN_RUN = "a call", "a delivery", "a worker dies in a run", "a call comes during a run"

histories = st.lists(
    st.one_of(
        st.sampled_from([CALL, CALL, DELIVER, DIE, CALL_IN_RUN]),
        st.sampled_from([0.5, 1.9, 2.1, 6.0, 21.0, 35.0]),  # seconds that pass
    ),
    max_size=25,
)


class Died(BaseException):
    """The worker of a run is gone: nothing after it happens, and its message is delivered again."""


class History:
    """A task with one policy, and what happened to it."""

    def __init__(self, policy: Any) -> None:
        self.app = Celery("histories", set_as_current=False, broker="memory://")
        self.ids: list[str] = []
        """The result handle of each call; the call's number is its argument."""
        self.ran: list[Run] = []
        self.in_run: Callable[[], None] | None = None

        @self.app.task(base=celeriac.Task, bind=True, name="task", policy=policy, shared=False)
        def task(running: Any, number: int) -> None:
            calls_before = len(self.ids)
            step, self.in_run = self.in_run, None
            if step is not None:
                step()
            self.ran.append(Run(number, running.request.id, calls_before, len(self.ids)))

        self.task = task

    def call(self) -> None:
        self.ids.append(self.task.delay(len(self.ids)).id)

    def die(self) -> None:
        keeping.keeper._claims.clear()  # a dead process renews nothing
        raise Died

    def deliver(self, calls: testing.Calls, in_run: Callable[[], None] | None = None) -> None:
        """Deliver one message; a worker that dies in its run leaves it to be delivered again."""
        taken = calls._take()
        if taken is None:
            return
        self.in_run = in_run
        try:
            calls._deliver(*taken)
        except Died:
            calls.client.rpush(*taken)
        self.in_run = None

    def play(self, history: list[Any]) -> None:
        steps: dict[Any, Callable[[testing.Calls], None]] = {
            CALL: lambda _: self.call(),
            DELIVER: self.deliver,
            DIE: lambda calls: self.deliver(calls, self.die),
            CALL_IN_RUN: lambda calls: self.deliver(calls, self.call),
        }
        with testing.policies(self.app) as calls:
            for step in history:
                if step in steps:
                    steps[step](calls)
                else:
                    calls.clock.advance(step)
            for _ in range(5):  # guards wait for half a minute, and calls that were put back for as long
                calls.advance(35)
            assert calls.queued() == []


@dataclass(frozen=True)
class Run:
    """One run that came to its end."""

    number: int
    task_id: str
    calls_before: int
    """How many calls had been made when it started."""
    calls_after: int


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    keeping.keeper._claims.clear()


def played(policy: str, history: list[Any]) -> History:
    it = History(OPTIONS[policy])
    it.play(history)
    return it


@given(history=histories)
@unhurried
def test_every_call_of_a_throttled_task_has_the_handle_of_one_that_ran(history: list[Any]) -> None:
    it = played("Throttle", history)
    assert set(it.ids) == {run.task_id for run in it.ran}


@given(history=histories)
@unhurried
def test_a_run_ends_after_the_last_call_of_a_unique_task(history: list[Any]) -> None:
    it = played("Unique", history)
    assert not it.ids or max(run.calls_after for run in it.ran) == len(it.ids)


@given(history=histories)
@unhurried
def test_a_run_starts_after_the_last_call_of_a_task_that_is_unique_until_its_start(history: list[Any]) -> None:
    it = played("Unique until start", history)
    assert not it.ids or max(run.calls_before for run in it.ran) == len(it.ids)


@pytest.mark.parametrize("policy", ["Debounce", "Coalesce"])
@given(history=histories)
@unhurried
def test_the_last_call_runs_and_runs_are_in_the_order_of_the_calls(policy: str, history: list[Any]) -> None:
    it = played(policy, history)
    numbers = [run.number for run in it.ran]
    assert not it.ids or numbers[-1] == len(it.ids) - 1
    assert numbers == sorted(numbers)


@given(calls=st.integers(2, 12), gap=st.sampled_from([0.1, 0.5, 1.0, 1.9]))
@unhurried
def test_a_burst_runs_when_it_is_due_and_not_before(calls: int, gap: float) -> None:
    it = History(OPTIONS["Debounce"])
    runs: list[tuple[float, int]] = []
    with testing.policies(it.app) as made:
        began = made.clock.now
        for _ in range(calls):
            it.call()
            runs += [(made.clock.now - began, run.args[0]) for run in made.advance(gap)]
        runs += [(made.clock.now - began, run.args[0]) for _ in range(100) for run in made.advance(0.1)]
    last_call = (calls - 1) * gap
    expected = min(last_call + QUIET, BOUND) if last_call < BOUND else BOUND
    assert runs[0][0] == pytest.approx(expected, abs=max(gap, 0.1) + 0.01)
    assert runs[-1][1] == calls - 1


# --- with everything that may happen to a call

KEYS = ("a", "b")
SHORT_LIFE = 3.0
REVOKE, EXPIRING, DELAYED = "the last call is revoked", "a call that expires", "a call with a countdown"
RETRY, MOVE, REJECT, REQUEUE = "a retry", "a retry with the other key", "a rejection", "a rejection that comes back"
IN_RUN = (DIE, CALL_IN_RUN, RETRY, MOVE, REJECT, REQUEUE)

eventful = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([CALL, CALL, EXPIRING, DELAYED]), st.sampled_from(KEYS)),
        st.tuples(st.just(DELIVER), st.none()),
        st.tuples(st.sampled_from(IN_RUN), st.sampled_from(KEYS)),
        st.tuples(st.just(REVOKE), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.9, 2.1, 6.0, 21.0, 35.0])),
    ),
    max_size=25,
)


class Eventful(History):
    """A task whose policy has a key, and everything that may happen to its calls."""

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        self.began: list[tuple[str, int]] = []
        """Key and number of each run, in the order of their starts."""
        self.inside: list[str] = []
        self.act: Callable[[Any, str], None] | None = None

        @self.app.task(
            base=celeriac.Task,
            bind=True,
            name="keyed",
            policy=dataclasses.replace(policy, key="key"),
            shared=False,
            max_retries=None,
        )
        def keyed(running: Any, key: str, number: int) -> None:
            assert running.request.id not in self.inside, "one id runs twice at once"
            self.inside.append(running.request.id)
            try:
                self.began.append((key, number))
                act, self.act = self.act, None
                if act is not None:
                    act(running, key)
            finally:
                self.inside.pop()

        self.task = keyed

    def make(self, key: str, **options: Any) -> None:
        self.ids.append(self.task.apply_async((key, len(self.ids)), **options).id)

    def step(self, calls: testing.Calls, what: str, key: Any) -> None:
        if what == "wait":
            calls.clock.advance(key)
        elif what in {CALL, EXPIRING, DELAYED}:
            self.make(key, **{CALL: {}, EXPIRING: {"expires": SHORT_LIFE}, DELAYED: {"countdown": 5}}[what])
        elif what == REVOKE and self.ids:
            calls.revoke(self.ids[-1])
        elif what == DELIVER:
            self.deliver_with(calls, None)
        elif what in IN_RUN:
            self.deliver_with(calls, lambda running, own: self.end_as(what, key, running, own))

    def end_as(self, what: str, key: str, running: Any, own: str) -> None:
        if what == DIE:
            self.die()
        if what == CALL_IN_RUN:
            self.make(key)
        if what == RETRY:
            raise running.retry(countdown=1)
        if what == MOVE:
            other = KEYS[1 - KEYS.index(own)]
            raise running.retry(args=(other, running.request.args[1]), countdown=1)
        if what in {REJECT, REQUEUE}:
            raise Reject(requeue=what == REQUEUE)

    def deliver_with(self, calls: testing.Calls, act: Callable[[Any, str], None] | None) -> None:
        self.act = act
        self.deliver(calls)
        self.act = None


def left(calls: testing.Calls) -> list[str]:
    """The keys that hold something back still."""
    names = [it for it in list(calls.client._values) if calls.client._read(it) is not None]
    over = ("celeriac:throttle:", "celeriac:revoked:")
    return [
        it for it in names if it.startswith("celeriac:") and not it.startswith(over) and not it.endswith(":covered")
    ]


@pytest.mark.parametrize("policy", OPTIONS)
@given(history=eventful)
@unhurried
def test_whatever_happened_the_next_call_runs_and_nothing_stays_claimed(
    policy: str, history: list[tuple[str, Any]]
) -> None:
    it = Eventful(OPTIONS[policy])
    with testing.policies(it.app) as calls:
        for what, key in history:
            it.step(calls, what, key)
        if policy == "Throttle":
            calls.advance(61)
        last = []
        for key in KEYS:
            it.make(key)
            last.append((key, len(it.ids) - 1, len(it.began)))
        for _ in range(12):
            calls.advance(35)
        for key, number, began_before in last:
            later = it.began[began_before:]
            if policy.startswith("Unique"):  # or another call's run that began after this call
                assert key in [name for name, _ in later] or it.ids[number] in {run.task_id for run in calls.ran}
            else:
                assert (key, number) in later
        assert left(calls) == []
        assert calls.queued() == []
        assert keeping.keeper._claims == {} or DIE in [what for what, _ in history]
