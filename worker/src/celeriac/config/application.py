"""What does a worker do with the user's Celery application?

It imports the application as `celery -A` does and applies the pool's configuration to it. This module works with any
Celery application, whether or not it uses this library.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celeriac.config import settings
from celeriac.config.contract import Config, Environment
from celeriac.config.settings import Own, Setting
from celeriac.exits import Exit, GivingUpError, scrub


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The configured application of a worker, before any part of this library is added."""

    app: Any
    """The Celery application with the pool's configuration applied."""
    config: Config
    environment: Environment
    own: Own
    """The settings that the application itself defines."""
    laid: list[Setting]
    """The settings that were applied to the application."""


def prepare(config: Config, environment: Environment) -> Start:
    """Import the application and apply the pool's configuration to it.

    Raises:
        GivingUpError: the application cannot be imported or is not a Celery application, its configuration cannot be
            read, or no transport accepts the broker's URL.
    """
    app = load(config.app, environment)
    own = read_own(app, environment)
    laid = lay_settings(app, config, environment, own)
    check_broker(app)
    return Start(app=app, config=config, environment=environment, own=own, laid=laid)


def import_celery() -> None:
    """Make sure that Celery can be imported in this image.

    Raises:
        GivingUpError: Celery is missing or cannot be imported.
    """
    try:
        import celery.app  # noqa: F401
    except ImportError as error:
        raise GivingUpError(
            f"Celery cannot be imported in this image with {sys.executable} ({error}): Celeriac runs the Celery that "
            "the application has installed; worker.python may have to name another interpreter",
            Exit.CONFIGURATION,
        ) from None


def load(name: str, environment: Environment) -> Any:
    """Find the application as `celery -A name` does.

    Raises:
        GivingUpError: the application cannot be imported, or it is not a Celery application.
    """
    import_celery()
    from celery import Celery
    from celery.app.utils import find_app

    try:
        app = find_app(name)
    except Exception as error:
        traceback.print_exc()
        cause: BaseException = error
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name == name
            and isinstance(error.__context__, AttributeError)
        ):
            cause = error.__context__  # Celery's last attempt is not what is wrong with `package.module:variable`
        said = scrub(" ".join(f"{type(cause).__name__}: {cause}".split()), environment.urls())
        raise GivingUpError(f"The application {name!r} (app) cannot be imported: {said}", Exit.CONFIGURATION) from None
    if not isinstance(app, Celery):
        raise GivingUpError(
            f"{name!r} (app) is a {type(app).__name__} not a Celery application: name one as package.module:variable",
            Exit.CONFIGURATION,
        )
    return app


def read_own(app: Any, environment: Environment) -> dict[str, Any]:
    """Return every Celery setting that the application sets, under Celery's present name for it.

    Raises:
        GivingUpError: the configuration cannot be read. Reading it runs the application's code (Django's settings).
    """
    from celery.app.defaults import DEFAULTS
    from celery.app.utils import Settings

    try:
        conf = app.conf
        conf.finalize()
        # All maps except the last, which holds Celery's defaults.
        said = Settings({}, list(conf.maps[:-1]), conf._keys, conf.prefix)
        own = {name: value for name in DEFAULTS if (value := said.get(name)) is not None}
    except Exception as error:
        traceback.print_exc()
        reason = scrub(" ".join(f"{type(error).__name__}: {error}".split()), environment.urls())
        sentence = f"The application's Celery configuration cannot be read: {reason}"
        raise GivingUpError(sentence, Exit.CONFIGURATION) from None
    variable = os.environ.get("CELERY_BROKER_URL")  # Celery prefers these to any configuration
    return {**own, "broker_url": variable} if variable else own


def lay_settings(app: Any, config: Config, environment: Environment, own: Mapping[str, Any]) -> list[Setting]:
    """Apply the pool's settings and Celeriac's defaults to the application; return what was applied."""
    # Celery prefers these variables to any configuration; the pool's URLs come first.
    if environment.broker_url:
        for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
            os.environ.pop(name, None)
    if environment.result_backend_url:
        os.environ.pop("CELERY_RESULT_BACKEND", None)
    laid = settings.compute(config, environment, own)
    before = {setting.name: app.conf.get(setting.name) for setting in laid}
    app.conf.update({setting.name: setting.value for setting in laid})
    if environment.broker_url:
        app.conf.update({"broker_read_url": environment.broker_url, "broker_write_url": environment.broker_url})
    if environment.result_backend_url:
        forget_result_backend(app)
    rebind_early_tasks(app, laid, before)
    return laid


def check_broker(app: Any) -> None:
    """Make sure that the broker's URL names a transport that kombu has here.

    Raises:
        GivingUpError: kombu has no such transport (`http://`, a driver that the image lacks), or it is not a URL.
    """
    try:
        connection = app.connection_for_read()
        for url in connection.alt or [None]:
            # If the setting lists several brokers to fail over between, each is checked.
            (connection if url is None else connection.clone(hostname=url)).get_transport_cls()
    except Exception as error:  # KeyError, ValueError, ImportError, and whatever the transport's module raises
        said = app.conf.broker_read_url or app.conf.broker_url
        reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise GivingUpError(
            f"The broker's URL {scrub(str(said))} cannot be used: {scrub(' '.join(reason.split()))}: it has to begin "
            "with a transport that the image has, such as redis:// or amqp://",
            Exit.CONFIGURATION,
        ) from None


def forget_result_backend(app: Any) -> None:
    """Discard a backend that was created while the application was imported: it uses the old URL."""
    app._backend_cache = None
    with contextlib.suppress(AttributeError):
        del app._local.backend


def rebind_early_tasks(app: Any, laid: list[Setting], before: Mapping[str, Any]) -> None:
    """Give the new settings to tasks that were used while the application was imported.

    Celery copies settings to a task when the task is first used, usually after this point. A task that was used earlier
    (for example by a signature in the beat schedule) has copies of the old settings, unless it declares its own.
    """
    new = {setting.name: setting.value for setting in laid}
    for task in list(app._tasks.values()):
        kind = type(task)
        for attribute, name in kind.from_config:
            if name in new and getattr(task, attribute, None) == before[name] and not declares(kind, attribute):
                setattr(kind, attribute, new[name])


def declares(kind: type, attribute: str) -> bool:
    """Return whether a task class, or one of its bases, declares this attribute itself.

    A class keeps its attributes in the order in which they were set. Attributes before `__bound__`, which Celery sets
    first when it binds a task, were declared; those after it were copied from the settings.
    """
    for cls in kind.__mro__:
        names = list(cls.__dict__)
        copied_from = names.index("__bound__") if "__bound__" in names else len(names)
        if attribute in names[:copied_from] and cls.__dict__[attribute] is not None:
            return True
    return False


def batch_of(task: Any) -> int:
    """Return how many messages one run of a task takes (celery-batches' `flush_every`); 0: it takes one message."""
    size = getattr(task, "flush_every", 0)
    return size if isinstance(size, int) and hasattr(task, "flush_interval") else 0


def largest_batch(app: Any) -> int:
    """Return how many messages the largest batch of an application takes; 0: the application has no batches."""
    return max((batch_of(task) for task in app.tasks.values()), default=0)


def select_queues(app: Any, config: Config) -> None:
    """Consume from the pool's queues. `-Q` is not used: it splits its list at commas, which a queue's name may contain.

    Raises:
        GivingUpError: the application allows only queues that it declares, and one of these is not declared.
    """
    if config.queues is None:
        return
    try:
        app.amqp.queues.select(list(config.queues))
    except KeyError as error:
        raise GivingUpError(
            f"The application has no queue {error} (queues), and its task_create_missing_queues is off",
            Exit.CONFIGURATION,
        ) from None


def processors() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
