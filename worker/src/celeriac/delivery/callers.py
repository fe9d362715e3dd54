"""How does the caller of a task learn that the task's message was dead-lettered?

In the same way as Celery reports any other failure: the result backend stores FAILURE with a `DeadLetterError`, a chord
or a chain fails, errbacks run, and `task_failure` is sent. An ignored result is not stored.

The result backend may be slow or unavailable, so this happens in a separate thread: neither the fetch nor the renewal
of leases waits for it. **Limit.** If the worker is killed before the thread has done this, the caller is not told. The
dead letter is kept in any case.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections import deque
from typing import Any, Final

from billiard.einfo import ExceptionInfo

from celeriac.delivery.values import messages, protocol
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.exceptions import DeadLetterError

logger = logging.getLogger(__name__)

MOST_WAITING: Final = 10_000
"""Dead letters that may wait to be reported to their callers; further ones are not reported."""
FLUSH_SECONDS: Final = 5.0
"""How long a leaving worker waits until the callers of dead-lettered tasks are told."""
FIELDS: Final = (
    *("args", "kwargs", "group", "group_index", "root_id", "parent_id", "ignore_result"),
    *("retries", "shadow", "stamps", "stamped_headers"),
)
"""The fields of a call that result backends read."""
CALLS: Final = ("errbacks", "chain", "chord")
"""The fields of a call that name other tasks, which fail together with it."""


class Callers:
    """Reports dead letters to the callers of an application's tasks. Methods may be called from any thread."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._waiting: deque[tuple[DeadEntry, DeadLetterError]] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, entry: DeadEntry, error: DeadLetterError) -> None:
        """Queue a report to the caller of one task."""
        with self._lock:
            self._waiting.append((entry, error))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="celeriac-callers", daemon=True)
                self._thread.start()

    def flush(self, seconds: float) -> None:
        """Wait until all reports are made, for at most `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                entry, error = self._waiting.popleft()
            try:
                fail(self.app, entry, error)
            except Exception:  # a result backend that is away, an errback that raises
                logger.exception("could not send the failure to the caller of a dead-lettered task")


def fail(app: Any, entry: DeadEntry, error: DeadLetterError) -> None:
    """Mark one task as failed, as Celery's worker does when a process is lost.

    Raises:
        Exception: the result backend or an errback raised it.
    """
    from celery import signals

    request = request_of(app, entry)
    if request is None:
        return
    task = app.tasks.get(request.task)
    backend = app.backend if task is None else task.backend
    failure = _raised(error)
    try:
        backend.mark_as_failure(request.id, error, request=request, store_result=_is_stored(request, task))
    finally:
        signals.task_failure.send(
            sender=task,
            task_id=request.id,
            exception=error,
            args=request.args,
            kwargs=request.kwargs,
            traceback=failure.traceback,
            einfo=failure,
        )


def request_of(app: Any, entry: DeadEntry) -> Any:
    """Return the context of the call in a dead letter; `None` if the message does not call a task with a result.

    Fields of a wrong type are left out; they may be the reason why the message was dead-lettered.
    """
    from celery.app.task import Context

    payload = entry.payload()
    name, task_id = messages.task_of(payload)
    if payload is None or not (protocol.is_name(name) and protocol.is_name(task_id)):
        return None
    body = _body_of(app, payload)
    headers = payload.get("headers") or {}
    said = dict(headers if "task" in headers else body)
    if protocol.why_no_body(body) is None and not isinstance(body, dict):
        args, kwargs, embed = body
        said.update(embed or {}, args=args, kwargs=kwargs)
    fields = {field: said[field] for field in FIELDS if field in said}
    fields.update((field, said[field]) for field in CALLS if _is_of_calls(said.get(field)))
    properties = payload["properties"]
    fields.update(
        task=name, id=task_id, reply_to=properties.get("reply_to"), correlation_id=properties.get("correlation_id")
    )
    return Context(fields)


def _is_stored(request: Any, task: Any) -> bool:
    ignores = request.ignore_result
    if ignores is None:
        ignores = getattr(task, "ignore_result", False)
    return not ignores or bool(getattr(task, "store_errors_even_if_ignored", False))


def _raised(error: DeadLetterError) -> Any:
    try:
        raise error
    except DeadLetterError:
        return ExceptionInfo()


def _is_of_calls(value: Any) -> bool:
    """Return whether a field can name tasks to call."""
    return isinstance(value, dict) or (isinstance(value, (list, tuple)) and all(isinstance(it, dict) for it in value))


def _body_of(app: Any, payload: dict[str, Any]) -> Any:
    """Return the decoded body; empty if this application cannot decode it (perhaps why the message is dead)."""
    from kombu.message import Message
    from kombu.serialization import prepare_accept_content

    body = payload.get("body") or ""
    try:
        if payload["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        message = Message(
            body=body,
            content_type=payload.get("content-type"),
            content_encoding=payload.get("content-encoding"),
            headers=payload.get("headers"),
            postencode="utf-8",
            accept=prepare_accept_content(app.conf.accept_content),
        )
        return {} if message.errors else message.decode()
    except Exception:
        return {}
