"""Which failures of tasks does the worker's parent process report?

The Sentry SDK's integration reports an exception of a task where it is raised. A task that is killed cannot report
anything: only Celery's parent process sees the hard time limit, a lost process (SIGKILL, out of memory) and a message
that no task can take. A reporter receives each of these failures exactly once. The parent also sees the exceptions that
tasks raise, on every pool. A reporter receives them through another method, because it may also listen in the children.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery.exceptions import Ignore, NotRegistered, Reject, Retry, TimeLimitExceeded, WorkerLostError
from celery.worker import state

from celeriac.failures.reporter import Failure, Reporter, queue_of, report_message
from celeriac.health.memory import MemoryKills
from celeriac.hooks import requests

OUT_OF_MEMORY: Final = (
    "The kernel killed it because the container reached its memory limit: raise resources.limits.memory, or set "
    "worker.maxMemoryPerChild"
)


class FailedRuns(requests.Listener):
    """Reports hard time limits, lost processes and the exceptions of tasks."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self._memory = MemoryKills()

    def hard_limit_passed(self, request: Any, seconds: float) -> None:
        """Report the hard time limit, unless Celery has called `on_failure` first for the same failure."""
        self._report(request, TimeLimitExceeded(seconds), "hard-time-limit")

    def failed(self, request: Any, error: BaseException) -> None:
        """Report the failure, unless it was intended (a revoked task, a shutdown)."""
        if isinstance(error, TimeLimitExceeded):
            self._report(request, error, "hard-time-limit")
        elif _was_intended(request):
            pass
        elif isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)):
            self._report(request, _as_lost(error, is_memory=self._memory.new() > 0), "worker-lost")
        elif not isinstance(error, (Retry, Ignore, Reject)) and not _was_expected(request, error):
            _tell(self.reporter.raised, request, error, "exception")

    def _report(self, request: Any, error: BaseException, kind: str) -> None:
        _tell(self.reporter.report, request, error, kind)


def install_unknown_tasks(reporter: Reporter) -> None:
    """Report each message that is discarded because its task is not registered in this worker."""

    def unknown(message: Any, name: str, **_: Any) -> None:
        report_message(reporter, message, NotRegistered(name), "unknown-task")

    signals.task_unknown.connect(unknown, weak=False, dispatch_uid="celeriac-unknown-task")


def _tell(tell: Callable[[Failure], None], request: Any, error: BaseException, kind: str) -> None:
    if request.is_reported:
        return
    request.is_reported = True
    tell(
        Failure(
            error=error,
            kind=kind,
            task_name=request.name,
            task_id=request.id,
            queue=queue_of(request.delivery_info),
            args=request.args,
            kwargs=request.kwargs,
        )
    )


def _was_intended(request: Any) -> bool:
    return bool(
        request.had_succeeded or request._already_cancelled or request._already_revoked or state.should_terminate
    )


def _was_expected(request: Any, error: BaseException) -> bool:
    throws = request.task.throws
    return bool(throws) and isinstance(error, throws)


def _as_lost(error: BaseException, *, is_memory: bool) -> BaseException:
    lost = error if isinstance(error, WorkerLostError) else WorkerLostError(f"Worker exited prematurely: {error!r}")
    return WorkerLostError(f"{lost} {OUT_OF_MEMORY}") if is_memory else lost
