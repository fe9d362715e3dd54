"""How do parts of this library hear of what Celery's parent process sees of a task?

Celery tells everything to the request class that a task names (`Task.Request`), whatever pool runs it. Each part has a
thin layer of hooks that stands before that class, and before the layers that were put there earlier.
"""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # missing from the stubs
from kombu.utils.imports import symbol_by_name


def put_before(app: Any, hooks: type, **members: Any) -> None:
    """Put a layer before the request classes of all tasks of an application; `members` become the layer's own.

    To be called once all tasks are known, and before the consumer is made.
    """
    classes: dict[Any, Any] = {}
    for task in app.tasks.values():
        base = symbol_by_name(task.Request)
        if base not in classes:
            classes[base] = type("Request", (hooks, base), {**members, "__module__": hooks.__module__})
        task.Request = classes[base]


def error_of(exc_info: Any) -> BaseException:
    """The exception itself of what `on_failure` is told; from another process it comes wrapped."""
    error: BaseException = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def note_end(request: Any) -> None:
    """Tell the channel that a request's message came by that its task has ended.

    Before Celery takes the task out of its books: whoever closes the channel then knows, and does not give it back.
    """
    note = getattr(request.message.channel, "note_end", None)
    if note is not None:
        note(request.message.delivery_tag)
