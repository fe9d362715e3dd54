"""Who waits for a task whose message is dead-lettered, and what are they told?

What Celery tells them of any other failure: the result backend has FAILURE with a `DeadLetterError`, a chord and a
chain fail, errbacks run, and `task_failure` is sent. A result that is ignored is not stored.

The result backend may be slow or away, so this happens in a thread of its own: neither the fetch nor the renewal of
leases waits for it. **Limit.** A worker that is killed in that moment has told nobody; the dead letter is there all the
same.
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
"""Dead letters that are still to be told of; more than that are not told of."""
FIELDS: Final = (
    *("args", "kwargs", "group", "group_index", "root_id", "parent_id", "ignore_result"),
    *("retries", "shadow", "stamps", "stamped_headers"),
)
"""What result backends read of a call."""
CALLS: Final = ("errbacks", "chain", "chord")
"""What a call says of other tasks that end with it."""


class Callers:
    """Tells the callers of an application's tasks. Methods may be called from any thread."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._waiting: deque[tuple[DeadEntry, DeadLetterError]] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, entry: DeadEntry, error: DeadLetterError) -> None:
        """Tell the caller of one task soon."""
        with self._lock:
            self._waiting.append((entry, error))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="celeriac-callers", daemon=True)
                self._thread.start()

    def flush(self, seconds: float) -> None:
        """Wait until everybody has been told, for at most so many seconds."""
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
                logger.exception("could not tell the caller of a dead letter")


def fail(app: Any, entry: DeadEntry, error: DeadLetterError) -> None:
    """Make one task a failure, as Celery's worker does when a process is lost.

    Raises:
        Exception: the result backend's, or that of an errback.
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
    """The context of the call in a dead letter; `None` where the message calls no task that could have a result.

    Fields of a wrong type, which may be why the message is dead, are left out.
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
    """Whether a field can say which tasks to call."""
    return isinstance(value, dict) or (isinstance(value, (list, tuple)) and all(isinstance(it, dict) for it in value))


def _body_of(app: Any, payload: dict[str, Any]) -> Any:
    """The decoded body; empty where this application cannot decode it, which may be why the message is dead."""
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
