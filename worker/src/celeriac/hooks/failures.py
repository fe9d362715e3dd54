"""Which failures can only be seen from the worker's parent process?

A task's own exception is reported where it is raised, by the Sentry SDK's integration. A task that is killed cannot
report anything: the hard time limit, a lost process (SIGKILL, out of memory) and a message that no task can take are
seen by Celery's parent process alone. This module hooks into Celery's own extension points there (`Task.Request` and
the consumer class) and tells a reporter of each such failure exactly once. What a task has raised comes to the parent
too, whatever pool runs it; it is told apart, for reporters that do not listen in the children.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.exceptions import Ignore, NotRegistered, Reject, Retry, TimeLimitExceeded, WorkerLostError
from celery.worker import state

from celeriac.failures.reporter import Failure, Reporter, queue_of, report_message
from celeriac.hooks import requests
from celeriac.hooks.prefork import remember_sent

if TYPE_CHECKING:
    _Request = Any  # a Celery request class: celery.worker.request.Request or what a task names
else:
    _Request = object


def install_requests(app: Any, reporter: Reporter) -> None:
    """Make the parent's requests of every task tell of hard time limits and lost processes."""
    requests.put_before(app, RequestHooks, reporter=reporter)


class RequestHooks(_Request):  # type: ignore[misc]  # a class of Celery's, chosen at run time
    """What the parent process sees of a task, to be put before a Celery request class."""

    reporter: Reporter
    #: Set when the drain gives the message back: whatever happens to the process then is no failure.
    given_back = False
    _reported = False
    _had_succeeded = False
    _reference: Any = None
    _future: Any = None

    @property
    def _apply_result(self) -> Any:
        """Celery's weak reference to the pool's handle of this task; Celery sets it."""
        return self._reference

    @_apply_result.setter
    def _apply_result(self, reference: Any) -> None:
        self._reference = reference
        # Nobody holds the handle of a threads pool, so its future would be out of reach before the task begins.
        self._future = getattr(reference() if reference is not None else None, "f", None)

    def keep_from_beginning(self) -> bool:
        """Take the task out of the pool's queue; false if it has begun or is certain to."""
        if self._reference is None:
            return True  # it has not been handed to the pool
        if remember_sent(self):
            return False  # a prefork pool cannot take it back, and now hears of its end
        return self._future is not None and bool(self._future.cancel())

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._report(TimeLimitExceeded(timeout), "hard-time-limit")
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        if self.given_back:
            return None
        try:
            return super().on_failure(exc_info, *args, **kwargs)
        finally:  # also where Celery fails at it: it stores the failure, and the result backend may be away
            self._note(requests.error_of(exc_info))

    def _note(self, error: BaseException) -> None:
        # Celery tells of a hard time limit here first and in on_timeout then: one failure all the same.
        if isinstance(error, TimeLimitExceeded):
            self._report(error, "hard-time-limit")
        elif self._was_intended():
            pass
        elif isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)):
            self._report(_as_lost(error), "worker-lost")
        elif not isinstance(error, (Retry, Ignore, Reject)) and not self._was_expected(error):
            self._tell(self.reporter.raised, error, "exception")

    def _success_was_stored(self) -> Any:
        # A process that is lost after its task has succeeded took nothing with it.
        stored = super()._success_was_stored()
        self._had_succeeded = bool(stored)
        return stored

    def _was_intended(self) -> bool:
        return bool(self._had_succeeded or self._already_cancelled or self._already_revoked or state.should_terminate)

    def _was_expected(self, error: BaseException) -> bool:
        throws = self.task.throws
        return bool(throws) and isinstance(error, throws)

    def _report(self, error: BaseException, kind: str) -> None:
        self._tell(self.reporter.report, error, kind)

    def _tell(self, tell: Callable[[Failure], None], error: BaseException, kind: str) -> None:
        if self._reported:
            return
        self._reported = True
        tell(
            Failure(
                error=error,
                kind=kind,
                task_name=self.name,
                task_id=self.id,
                queue=queue_of(self.delivery_info),
                args=self.args,
                kwargs=self.kwargs,
            )
        )


def _as_lost(error: BaseException) -> BaseException:
    return error if isinstance(error, WorkerLostError) else WorkerLostError(f"Worker exited prematurely: {error!r}")


def install_unknown_tasks(reporter: Reporter) -> None:
    """Tell of each message that is thrown away because this worker does not know its task."""

    def unknown(message: Any, name: str, **_: Any) -> None:
        report_message(reporter, message, NotRegistered(name), "unknown-task")

    signals.task_unknown.connect(unknown, weak=False, dispatch_uid="celeriac-unknown-task")
