"""What happens when a task raises an exception that ends more than the task?

`sys.exit()` in a library, `KeyboardInterrupt`, `GeneratorExit` and a cancelled coroutine's `CancelledError` are not
`Exception`s, so Celery does not handle them as the failure of a task. In a pool of threads or green threads the result
is never stored, the message is never settled and the slot stays busy (celery #1018, #2911); in a prefork pool the child
ends and the task runs again until it has used its deliveries up. A `MemoryError` ends Celery's parent process.

With this module, the body of each task raises `celeriac.exceptions.TaskExitError` instead, with the original exception
as its cause. This is an ordinary failure on every pool: it is stored, reported once and acknowledged, and the slot
becomes free. Code that calls a task directly, as a function, still gets the original exception.

**Limit.** Coroutine functions are not wrapped. Only an application's own pool can run them.
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
"""Module and name of the exceptions that a green pool raises in a task to revoke it or to enforce its time limit."""


def install(app: Any) -> None:
    """Wrap the bodies of all tasks of an application.

    Call this when all tasks are registered, before Celery builds their tracers and before a pool forks.
    """
    for task in app.tasks.values():
        if not inspect.iscoroutinefunction(task.run):
            task.run = contained(task)


def contained(task: Any) -> Any:
    """Wrap the body of `task`: an exception that would end more than the task becomes a `TaskExitError`."""
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
    """Whether a pool or the worker uses this exception to end a run. If so, it must not be replaced."""
    if isinstance(error, (WorkerShutdown, WorkerTerminate)):
        return True
    # billiard sets this in a prefork child that received SIGTERM, before it raises SystemExit there.
    if getattr(billiard_common, "_should_have_exited", [False])[0]:
        return True
    for module, name in _OF_GREEN_POOLS:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return True
    return False


def described(error: BaseException) -> str:
    """The message of the failure. It also works for an exception whose `str()` fails."""
    try:
        text = str(error)
    except Exception:  # the `__str__` of an application's own exception may raise
        text = ""
    return f"the task raised {type(error).__name__}{f': {text}' if text else ''}"
