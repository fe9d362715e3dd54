"""What happens when a task raises an exception that ends more than the task?

`sys.exit()` in a library, `KeyboardInterrupt`, `GeneratorExit` and a cancelled coroutine's `CancelledError` are not
`Exception`s, so Celery does not handle them as the failure of a task. In a pool of threads or green threads the result
is never stored, the message is never settled and the slot stays busy (celery #1018, #2911); in a prefork pool the child
ends and the task runs again until it has used its deliveries up. A `MemoryError` ends Celery's parent process.

Here the body of each task raises `celeriac.exceptions.TaskExitError` instead, with the original as its cause. From
there on it is an ordinary failure on every pool: stored, reported once, acknowledged, and the slot is free. Whoever
calls a task directly, as a function, still gets the original.

**Limit.** A coroutine function, which only a pool of the application's own can run, is left as it is.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, Final

from billiard import common as billiard_common
from celery.exceptions import WorkerShutdown, WorkerTerminate

from celeriac.exceptions import TaskExitError

_OF_GREEN_POOLS: Final = (("greenlet", "GreenletExit"), ("gevent", "Timeout"), ("eventlet", "Timeout"))
"""Module and name of the exceptions by which a green pool ends a task: one that is revoked, and its hard time limit."""


def install(app: Any) -> None:
    """Contain the bodies of all tasks of an application.

    To be called once all tasks are known, before Celery builds their tracers and before a pool forks.
    """
    for task in app.tasks.values():
        if not inspect.iscoroutinefunction(task.run):
            task.run = contained(task)


def contained(task: Any) -> Any:
    """The body of `task`, which fails where it would have ended more than the task."""
    run = task.run

    @functools.wraps(run)
    def body(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return run(*args, **kwargs)
        except Exception as error:
            if not isinstance(error, MemoryError) or task.request.called_directly:
                raise
            raise TaskExitError(described(error)) from error
        except BaseException as error:
            if task.request.called_directly or ends_the_run(error):
                raise
            raise TaskExitError(described(error)) from error

    return body


def ends_the_run(error: BaseException) -> bool:
    """Does a pool or the worker itself end a run by this exception, so that it has to pass?"""
    if isinstance(error, (WorkerShutdown, WorkerTerminate)):
        return True
    # Set by billiard in a prefork child that was sent SIGTERM, before it raises SystemExit there.
    if getattr(billiard_common, "_should_have_exited", [False])[0]:
        return True
    for module, name in _OF_GREEN_POOLS:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return True
    return False


def described(error: BaseException) -> str:
    """What the failure says of the exception that was raised; works for one that cannot be shown."""
    try:
        text = str(error)
    except Exception:  # an application's own exception may fail even at this
        text = ""
    return f"the task raised {type(error).__name__}{f': {text}' if text else ''}"
