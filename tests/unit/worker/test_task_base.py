"""A task with `base=celeriac.Task` keeps the base class that its application would have given it."""

from __future__ import annotations

import sys
from abc import ABC
from collections.abc import Callable, Iterator
from typing import Any

import celery
import django
import pytest
from celery import Celery, _state, shared_task
from celery.contrib.django.task import DjangoTask
from django.conf import settings
from django.db import transaction

import celeriac


class Audited(celery.Task):  # type: ignore[type-arg]
    """A base class as applications write it: it looks at each call, run and failure."""

    seen: list[str] = []  # noqa: RUF012 - shared by its subclasses on purpose

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append("call")
        return super().__call__(*args, **kwargs)

    def before_start(self, *_: Any) -> None:
        self.seen.append("before_start")  # and does not call the next one: many do not

    def on_failure(self, *_: Any) -> None:
        self.seen.append("on_failure")

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append("apply_async")
        return super().apply_async(*args, **kwargs)


class Abstract(celery.Task, ABC):  # type: ignore[type-arg]
    """One with a metaclass."""


class Ours(celeriac.Task):
    """An application's base class on top of the library's."""


class OursInDjango(celeriac.Task, DjangoTask):
    """The same in a Django project, as the guide says it."""


class Subclassed(Celery):
    """An application class that says which task class it has."""

    task_cls = Audited


def a_celery(cls: type[Celery] = Celery, **options: Any) -> Celery:
    app = cls("shop", broker="memory://", backend="cache+memory://", set_as_current=False, **options)
    app.conf.task_always_eager = True
    return app


def in_django(**options: Any) -> Celery:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
        patch.setattr(sys, "path", list(sys.path))  # Celery adds the working directory for good
        return a_celery(**options)


@pytest.fixture(autouse=True, scope="module")
def a_django_project() -> None:
    if not settings.configured:
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        settings.configure(DATABASES={"default": database}, LOGGING_CONFIG=None)
        django.setup()


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    Audited.seen.clear()
    yield
    Audited.seen.clear()


def by_the_application(app: Celery, **options: Any) -> Any:
    app.task(name="work", shared=False, **options)(work)
    return app.tasks["work"]


def by_any_application(app: Celery, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_state, "_on_app_finalizers", set())  # what other tests shared
        shared_task(name="work", **options)(work)
        return app.tasks["work"]


def work(fails: bool = False) -> str:
    if fails:
        raise ValueError("as asked")
    return "done"


def written_bases(task: Any) -> list[type]:
    """The task's classes that somebody wrote: without its own, and those that Celery makes for an application."""
    return [it for it in type(task).__mro__[1:] if it.__dict__.get("_app") is None]


APPLICATIONS = {
    "plain": a_celery,
    "with a task class": lambda: a_celery(task_cls=Audited),
    "with a task class by name": lambda: a_celery(task_cls=f"{__name__}:Audited"),
    "whose own class has one": lambda: a_celery(Subclassed),
    "with a task class that has a metaclass": lambda: a_celery(task_cls=Abstract),
    "in Django": in_django,
    "in Django, with a task class": lambda: in_django(task_cls=Audited),
}
WAYS = {"app.task": by_the_application, "shared_task": by_any_application}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("build", APPLICATIONS.values(), ids=APPLICATIONS.keys())
def test_a_task_has_every_class_that_it_has_without_the_library(
    build: Callable[[], Celery], way: Callable[..., Any]
) -> None:
    stock = written_bases(way(build()))
    assert written_bases(way(build(), base=celeriac.Task)) == [celeriac.Task, *stock]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_the_librarys_class_for_all_tasks_keeps_djangos(way: Callable[..., Any]) -> None:
    task = way(in_django(task_cls=celeriac.Task))
    assert isinstance(task, celeriac.Task)
    assert isinstance(task, DjangoTask)


@pytest.mark.parametrize(
    ("build", "base", "expected"),
    [
        pytest.param(lambda: a_celery(task_cls=Ours), celeriac.Task, [Ours, celeriac.Task], id="for all, and again"),
        pytest.param(lambda: a_celery(task_cls=celeriac.Task), celeriac.Task, [celeriac.Task], id="the same twice"),
        pytest.param(
            lambda: a_celery(task_cls=Audited), Ours, [Ours, celeriac.Task], id="a class of its own: it alone"
        ),
        pytest.param(
            in_django, OursInDjango, [OursInDjango, celeriac.Task, DjangoTask], id="a class of its own, Django"
        ),
        pytest.param(lambda: in_django(task_cls=Ours), celeriac.Task, [Ours, celeriac.Task], id="Django, for all"),
    ],
)
def test_a_class_that_derives_from_the_librarys_says_its_bases_itself(
    build: Callable[[], Celery], base: type, expected: list[type]
) -> None:
    task = by_the_application(build(), base=base)
    assert written_bases(task) == [*expected, celery.Task, object]


def test_the_applications_class_sees_what_it_sees_without_the_library() -> None:
    seen = []
    for options in ({}, {"base": celeriac.Task}):
        task = by_the_application(a_celery(task_cls=Audited), **options)
        assert task.delay().get() == "done"
        assert task.delay(fails=True).failed()
        seen.append(list(Audited.seen))
        Audited.seen.clear()
    assert (
        seen[0]
        == seen[1]
        == ["apply_async", "before_start", "call", "apply_async", "before_start", "call", "on_failure"]
    )


@pytest.mark.parametrize("options", [{}, {"base": celeriac.Task}], ids=["stock", "with the library"])
def test_a_call_goes_out_when_the_transaction_is_committed(options: dict[str, Any]) -> None:
    ran = []

    def work(number: int) -> None:
        ran.append(number)

    task = in_django().task(name="work", shared=False, **options)(work)
    with transaction.atomic():
        task.delay_on_commit(1)
        task.apply_async_on_commit((2,))
        assert ran == []
    assert ran == [1, 2]


def test_each_application_gives_a_shared_task_its_own_base() -> None:
    plain, audited = a_celery(), a_celery(task_cls=Audited)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_state, "_on_app_finalizers", set())
        shared_task(name="work", base=celeriac.Task)(work)
        plain.finalize(), audited.finalize()
    assert isinstance(audited.tasks["work"], Audited)
    assert not isinstance(plain.tasks["work"], Audited)
