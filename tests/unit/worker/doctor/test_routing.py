"""The doctor's answer to "where do my tasks go?" is what Celery does when they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from celery import Celery
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kombu import Exchange, Queue

from celeriac.doctor import routing
from celeriac.doctor.facts import Facts
from celeriac.doctor.rules import queues_get_tasks, routes_can_be_used

NAMES = ("shop.send", "shop.pack", "reports.render")
QUEUES = ("celery", "emails", "reports", "low priority")


class ByClass:
    """A router as Celery 3 had them."""

    def route_for_task(self, task: str, *_: Any) -> str | None:
        return "reports" if task.startswith("reports.") else None


def by_function(
    name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any
) -> Mapping[str, str] | None:
    return {"queue": "emails"} if name == "shop.send" else None


def by_arguments(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> str:
    return "emails" if args[0] else "reports"


queues = st.sampled_from(QUEUES)
targets = st.one_of(queues, st.fixed_dictionaries({"queue": queues}), queues.map(Queue).map(lambda it: {"queue": it}))
patterns = st.one_of(
    st.sampled_from(NAMES), st.sampled_from(["shop.*", "*", "reports.*"]), st.just(re.compile(r".*\.(send|render)"))
)
one_route = st.one_of(
    st.dictionaries(patterns, targets, max_size=3),
    st.just(by_function),
    st.just(f"{__name__}:ByClass"),
    st.just(f"{__name__}:by_function"),
)
pairs = st.lists(st.tuples(patterns, targets), min_size=1, max_size=3)
routes = st.one_of(st.none(), one_route, st.lists(st.one_of(one_route, pairs), max_size=3).map(tuple))
declared = st.one_of(st.none(), st.lists(queues, min_size=1, max_size=3, unique=True))
options = st.dictionaries(st.just("queue"), queues)


def nothing() -> None:
    """A task's body."""


def an_application(
    *, routes: Any = None, declared: Any = None, default: str = "celery", own: Mapping[str, Any] | None = None
) -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(task_routes=routes, task_default_queue=default)
    app.conf.task_queues = None if declared is None else [Queue(name) for name in declared]
    for name in NAMES:
        app.task(name=name, shared=False, **(own or {}))(nothing)
    app.finalize()
    return app


def where_celery_sends(app: Celery, name: str) -> str:
    """The queue of a real call, seen where Celery hands the message to kombu."""
    seen: list[str] = []
    with app.connection_for_write() as connection, connection.channel() as channel:
        producer = app.amqp.Producer(channel)
        publish = producer.publish
        producer.publish = lambda *args, **given: (seen.append(given["declare"][0].name), publish(*args, **given))[1]
        app.tasks[name].apply_async(producer=producer)
    return seen[0]


@pytest.mark.filterwarnings(r"ignore:\s*The 'queue' task attribute")  # and used
@settings(max_examples=20, phases=[Phase.generate])  # making an application takes too long to shrink one
@given(routes=routes, declared=declared, default=queues, own=options)
def test_it_says_what_celery_does(routes: Any, declared: Any, default: str, own: Mapping[str, Any]) -> None:
    app = an_application(routes=routes, declared=declared, default=default, own=own)
    before = list(app.amqp.queues)
    found = routing.read_destinations(app, [app.tasks[name] for name in NAMES])
    assert list(app.amqp.queues) == before, "looking declares no queue: a worker would consume from it"
    for name in NAMES:
        assert name in found[where_celery_sends(app, name)]


def test_a_route_by_exchange_ends_in_the_queue_that_is_bound_to_it() -> None:
    app = an_application(routes={"*": {"exchange": "media", "routing_key": "video"}})
    app.conf.task_queues = [Queue("celery"), Queue("videos", Exchange("media"), routing_key="video")]
    assert routing.read_destinations(app, [app.tasks["shop.send"]]) == {"videos": ("shop.send",)}


def test_what_depends_on_arguments_is_left_out() -> None:
    app = an_application(routes=by_arguments)
    assert routing.read_destinations(app, [app.tasks["shop.send"]]) == {}


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param([("shop.*", {"queue": "emails"})], id="pairs without the list around them"),
        pytest.param("nowhere:Router", id="a class that is not there"),
        pytest.param(5, id="a number"),
    ],
)
def test_routes_that_cannot_be_used_are_an_error(routes: Any) -> None:
    app = an_application(routes=routes)
    task = app.tasks["shop.send"]
    problem = routing.read_problem(app)
    assert problem is not None
    assert routing.read_destinations(app, [task]) == {}
    finding = routes_can_be_used(
        Facts(pool="prefork", slots=1, broker="redis", has_leases=True, routes_problem=problem)
    )
    assert finding is not None
    assert finding.severity == "error"
    assert type(error_of(task.delay)).__name__ in finding.message, "as Celery says it at each call"


def error_of(call: Any) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("no error")


def facts(consumed: tuple[str, ...], destinations: Mapping[str, tuple[str, ...]]) -> Facts:
    return Facts(pool="prefork", slots=1, broker="redis", has_leases=True, consumed=consumed, destinations=destinations)


@pytest.mark.parametrize(
    ("consumed", "destinations", "said"),
    [
        pytest.param(("celery",), {"celery": ("a",)}, None, id="its own queue"),
        pytest.param(("celery", "spare"), {"celery": ("a",)}, None, id="one more, for calls that name it"),
        pytest.param(("labels",), {"labels": ("a",), "celery": ("b",)}, None, id="one of several pools"),
        pytest.param(("labels",), {}, None, id="nobody knows"),
        pytest.param(
            ("default",),
            {"celery": ("a", "b")},
            "no task is routed to queue default, and this worker consumes no other queue: a and b go to celery; put "
            "celery into queues, or set task_default_queue or task_routes in the application",
            id="the classic: Celery's default queue is celery",
        ),
        pytest.param(
            ("one", "two"),
            {"celery": ("a",), "mail": ("b", "c", "d", "e")},
            "no task is routed to queues one, two, and this worker consumes no other queue: a goes to celery; b, c, "
            "d and 1 more go to mail; put celery or mail into queues, or set task_default_queue or task_routes in the "
            "application",
            id="two and two",
        ),
        pytest.param(
            ("celery", "emials"),
            {"celery": ("a",), "emails": ("b",)},
            "no task is routed to queue emials; b goes to emails, which this worker does not consume: is it "
            "the same queue, misspelt?",
            id="misspelt beside a right one",
        ),
        pytest.param(
            ("celery", "Emails"),
            {"celery": ("a",), "emails": ("b",)},
            "no task is routed to queue Emails; b goes to emails, which this worker does not consume: is it "
            "the same queue, misspelt?",
            id="another case",
        ),
    ],
)
def test_a_worker_whose_queues_get_nothing_is_told(
    consumed: tuple[str, ...], destinations: Mapping[str, tuple[str, ...]], said: str | None
) -> None:
    finding = queues_get_tasks(facts(consumed, destinations))
    assert (finding and finding.message) == said
    assert finding is None or (finding.code, finding.severity) == ("queues-without-tasks", "warning")
