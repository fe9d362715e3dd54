"""Policies as values: keys, delays, and which calls are published whatever they say."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

import celeriac
from celeriac import testing
from celeriac.policies import dispatch, misplaced, values
from celeriac.policies.values import Coalesce, Debounce, Exclusive, Throttle, Unique, carries_more


def run(user: Any, kind: str = "mail", *rest: Any, **extra: Any) -> None:
    """A task's function."""


def key_of(key: values.Key, *args: Any, **kwargs: Any) -> str:
    return Throttle(key, seconds=1).key_of(run, args, kwargs)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, ""),
        ("user", "42"),
        ("kind", "mail"),
        ("extra_one", "yes"),
        ("{user}-{kind}", "42-mail"),
        ("u:{user:>4}", "u:  42"),
        (lambda user, **_: f"<{user}>", "<42>"),
        (lambda *args, **kwargs: len(args) + len(kwargs), "2"),
    ],
    ids=["none", "a parameter", "a default", "one of **kwargs", "a template", "a format", "a callable", "a number"],
)
def test_a_key_is_made_of_the_calls_arguments(key: values.Key, expected: str) -> None:
    assert key_of(key, 42, extra_one="yes") == expected


def test_it_does_not_matter_how_an_argument_is_passed() -> None:
    assert key_of("user", 42) == key_of("user", user=42) == key_of("user", "42")


def test_templates_reach_into_arguments() -> None:
    assert key_of("{user.id}-{kind[0]}", SimpleNamespace(id=7), "mail") == "7-m"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("{user.name}", "cannot be made of this call"),
        ("{nobody}", "cannot be made of this call"),
        (lambda *_, **__: None, "returned None"),
    ],
    ids=["an attribute that is not there", "an argument that is not there", "a callable without an answer"],
)
def test_a_key_that_cannot_be_made_is_an_error(key: values.Key, message: str) -> None:
    with pytest.raises(celeriac.PolicyError, match=message):
        key_of(key, 42)


def plain(user: str) -> None:
    """A task's function."""


def bound(self: celeriac.Task, user: str) -> None:
    """A task's function that gets its task."""


def make_task(body: Callable[..., None] = plain, **options: Any) -> Any:
    app = Celery("a", set_as_current=False, broker="memory://")
    task = app.task(base=celeriac.Task, name="t", shared=False, **options)(body)
    task.bind(app)
    return task


@pytest.mark.parametrize("bind", [False, True], ids=["a plain task", "a bound task"])
@pytest.mark.parametrize("key", ["site", "{user}/{site}"], ids=["a name", "a template"])
def test_a_key_that_names_no_parameter_is_named_when_the_task_is_made_and_refused_when_it_is_called(
    bind: bool, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task(bound if bind else plain, bind=bind, policy=Throttle(key, seconds=1))
    said = r"of task t: it has no parameter 'site'; its parameters are: user"
    assert re.search(said, caplog.text)
    with pytest.raises(celeriac.PolicyError, match=said):
        task.delay("ann")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("once", "use celeriac"),
        ([Throttle(seconds=1), Throttle(seconds=2)], r"2 policies for calling \(Throttle and Throttle\)"),
        ([Unique(), Debounce(seconds=1)], r"2 policies for calling \(Unique and Debounce\)"),
        ([Exclusive(), Exclusive("user")], r"2 policies for running \(Exclusive and Exclusive\)"),
        (Unique, "with its options"),
        (Throttle("{user", seconds=1), "is not a template"),
        (Coalesce("{}"), "no parameter ''"),
    ],
    ids=[
        "no policy",
        "two of a kind",
        "two for calling",
        "two for running",
        "a class",
        "a broken template",
        "a nameless field",
    ],
)
def test_a_policy_that_makes_no_sense_is_named_when_the_task_is_made_and_refused_when_it_is_called(
    policy: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task(policy=policy)
    assert re.search(message, caplog.text)
    with pytest.raises(celeriac.PolicyError, match=message):
        task.delay("ann")


def test_a_task_may_have_one_policy_for_calling_and_one_for_running() -> None:
    both = [Throttle("user", seconds=1), Exclusive("user")]
    task = make_task(policy=both)
    found = task._resolve()
    assert (found.calling, found.running) == tuple(both)


def test_a_task_that_another_thread_is_still_binding_has_its_policy() -> None:
    policy = Throttle("user", seconds=1)
    unbound = type("t", (celeriac.Task,), {"name": "t", "policy": policy, "run": staticmethod(plain)})
    assert unbound()._resolve().calling == policy


@pytest.mark.parametrize(
    "make",
    [
        lambda: Throttle("user", seconds=0),
        lambda: Throttle("user", seconds=float("nan")),
        lambda: Exclusive(lock_seconds=-1),
        lambda: Exclusive(wait_seconds=0),
        lambda: Exclusive(max_hold_seconds=0),
        lambda: Exclusive(backoff_seconds=(5, 1)),
        lambda: Exclusive(on_conflict="explode"),  # type: ignore[arg-type]
        lambda: Unique(until="later"),  # type: ignore[arg-type]
        lambda: Unique(claim_seconds=0),
        lambda: Debounce(seconds=0),
        lambda: Debounce(seconds=5, max_wait=4.9),
        lambda: Debounce(seconds=5, max_wait=float("nan")),
        lambda: Coalesce(claim_seconds=-1),
        lambda: Throttle("", seconds=1),
        lambda: Throttle(30, seconds=1),  # type: ignore[arg-type]
        lambda: Throttle(["user", "kind"], seconds=1),  # type: ignore[arg-type]
        lambda: Throttle(seconds=float("inf")),
        lambda: Throttle(seconds=10**12),
        lambda: Exclusive(backoff_seconds=(1, float("inf"))),
    ],
    ids=[
        "no window",
        "not a number",
        "negative lock",
        "no wait",
        "no hold",
        "backwards delays",
        "unknown conflict",
        "unknown end",
        "a claim of no time",
        "no quiet time",
        "a bound below the quiet time",
        "a bound that is not a number",
        "a negative claim",
        "an empty key",
        "seconds for a key",
        "a list for a key",
        "without end",
        "longer than Redis counts",
        "a delay without end",
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(
        ValueError, match=r"must be|longest delay must be the second|it is 'requeue'|it is 'done'|it is the name"
    ):
        make()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"countdown": 5, "queue": "x", "link": None}, False),
        ({"link": ["sig"]}, True),
        ({"link_error": ["sig"]}, True),
        ({"chain": ["sig"]}, True),
        ({"chord": "sig"}, True),
        ({"group_id": "g"}, True),
        ({"retries": 1}, True),
        ({"headers": {values.CONFLICTS_HEADER: 1}}, True),
        ({"headers": {values.CALL_HEADER: "guard:1"}}, True),
        ({"headers": {"other": 1}}, False),
    ],
    ids=[
        "alone",
        "with options",
        "callback",
        "errback",
        "chain",
        "chord",
        "group",
        "retry",
        "put back",
        "a guard",
        "own headers",
    ],
)
def test_calls_that_carry_more_than_themselves_are_known(options: dict[str, Any], expected: bool) -> None:
    assert carries_more(options) is expected


def test_every_policy_for_calling_has_its_steps() -> None:
    assert set(dispatch._MODULES) == set(values.CallPolicy.__subclasses__())
    for policy in dispatch._MODULES:
        assert set(dir(dispatch._steps(policy.__new__(policy)))) >= {"publish", "hold", "start", "end", "abandon"}


def test_a_policy_that_an_application_derives_is_carried_out_as_the_one_that_it_is_derived_from() -> None:
    class EveryMinute(Throttle):
        """A policy under an application's own name."""

    task = make_task(policy=EveryMinute("user", seconds=60))
    with testing.policies(task.app) as calls:
        assert task.delay("ann").id == task.delay("ann").id
        assert [type(it.policy) for it in calls.dropped] == [EveryMinute]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Throttle(seconds="30"), "seconds of Throttle is '30': it must be a number of seconds, such as 30"),
        (lambda: Throttle(seconds=dt.timedelta(minutes=1)), "write the number of seconds, 60"),
        (lambda: Throttle(seconds=None), "must be a number of seconds"),
        (lambda: Throttle(seconds=True), "must be a number of seconds"),
        (lambda: Unique(claim_seconds="30"), "claim_seconds of Unique is '30': it must be a number of seconds"),
        (lambda: Debounce(seconds=1, max_wait="9"), "max_wait of Debounce is '9': it must be a number of seconds"),
        (lambda: Coalesce(claim_seconds=dt.timedelta(days=1)), "write the number of seconds, 86400"),
        (lambda: Exclusive(backoff_seconds=5), r"backoff_seconds of Exclusive is 5: .* such as \(1, 30\)"),
        (lambda: Exclusive(backoff_seconds=(1, 2, 3)), "must be the shortest and the longest delay"),
        (lambda: Exclusive(backoff_seconds=("1", "30")), "backoff_seconds of Exclusive is '1'"),
        (lambda: Exclusive(lock_seconds="5"), "lock_seconds of Exclusive is '5'"),
        (lambda: Exclusive(wait_seconds=dt.timedelta(seconds=5)), "write the number of seconds, 5"),
        (lambda: Exclusive(max_hold_seconds="9"), "max_hold_seconds of Exclusive is '9'"),
    ],
)
def test_values_that_are_no_numbers_are_refused_with_a_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


# --- a policy where it has no effect


def lazily(**options: Any) -> tuple[Celery, Any]:
    """An application with a task that is made with these options, and another one."""
    app = Celery("a", set_as_current=False, broker="memory://", set_default=False)
    task = app.task(name="t", shared=False, **options)(plain)

    @app.task(name="other", shared=False, base=celeriac.Task, policy=Throttle("user", seconds=5))
    def other(user: str) -> None:
        """A task whose policy is right."""

    return app, task


THROTTLE = Throttle("user", seconds=5)
MISPLACED: dict[str, tuple[dict[str, Any], str]] = {
    "no base": ({"policy": THROTTLE}, "policy of task t has no effect: the task needs base=celeriac.Task"),
    "no base, misspelt": ({"polcy": THROTTLE}, "polcy= of task t has no effect: write policy=, and base="),
    "no base, plural": ({"policies": THROTTLE}, "policies= of task t has no effect: write policy=, and base="),
    "misspelt": (
        {"base": celeriac.Task, "polcy": THROTTLE},
        "task t: polcy= is not an option of a task: write policy=",
    ),
    "capital": ({"base": celeriac.Task, "Policy": THROTTLE}, "task t: Policy= is not an option of a task"),
    "plural": ({"base": celeriac.Task, "policies": [THROTTLE]}, "task t: policies= is not an option of a task"),
    "wrong parameter": ({"base": celeriac.Task, "policy": Throttle("usr", seconds=5)}, "it has no parameter 'usr'"),
}


@pytest.mark.parametrize(("options", "sentence"), MISPLACED.values(), ids=MISPLACED)
def test_a_policy_that_would_do_nothing_is_refused_and_other_tasks_go_on(
    options: dict[str, Any], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, task = lazily(**options)
    with testing.policies(app):
        other = app.tasks["other"]
        assert other.delay("ann").id == other.delay("ann").id
        for _ in range(2):
            with pytest.raises(celeriac.PolicyError, match=re.escape(sentence)):
                task.delay("ann")
    assert sentence in caplog.text
    assert [it for it in misplaced.problems(app.tasks.values()) if sentence in it]


def test_lists_of_policies_without_a_base_are_found_before_a_worker_starts() -> None:
    for option in ("policy", "policies"):
        app, _ = lazily(**{option: [THROTTLE]})
        app.finalize()
        (sentence,) = misplaced.problems(app.tasks.values())
        assert "base=celeriac.Task" in sentence


def test_a_policy_elsewhere_is_nobodys_business() -> None:
    class Shared:
        policy = THROTTLE

    app, task = lazily(base=celeriac.Task, policy=Shared.policy, throttle=THROTTLE, retry_policy={"max_retries": 1})
    app.finalize()
    assert misplaced.problems(app.tasks.values()) == []
    with testing.policies(app):
        assert task.delay("ann").id == task.delay("ann").id


def test_a_run_of_a_task_whose_policy_is_wrong_fails_with_the_sentence() -> None:
    app, _ = lazily(base=celeriac.Task, policy=Throttle("usr", seconds=5))
    with testing.policies(app) as calls:
        app.send_task("t", ("ann",))
        (ran,) = calls.run()
    assert ran.state == "FAILURE"
    assert "it has no parameter 'usr'" in str(ran.result)
