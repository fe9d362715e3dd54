"""What does Celery's parent process see of a task, and which listeners are notified?

On every pool, Celery reports each step of a task to the request class that the task names (`Task.Request`). `install`
puts one class before the request classes of all tasks. That class calls an ordered tuple of listeners:

    accepted ─┬─ run_ended ─┬─ reached: succeeded
              │             └─ takes_failure, else Celery ─ failed ─ reached: failed, retried, ignored, rejected, lost
              ├─ hard_limit_passed, reached: timed_out
              └─ reached: revoked (terminated)
    reached: revoked, expired

A run that the drain cuts short does not reach a state here: its message is handed back, and the next worker that runs
the task counts it. A listener runs in the thread that Celery uses, which is the event loop's for most pools. It must
not block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # missing from the stubs
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded, WorkerLostError
from kombu.utils.imports import symbol_by_name

from celeriac.hooks.prefork import remember_sent

if TYPE_CHECKING:
    _Request = Any  # a Celery request class: celery.worker.request.Request or what a task names
else:
    _Request = object

LAST_STATES: Final = (
    "succeeded",
    "failed",
    "retried",
    "ignored",
    "rejected",
    "timed_out",
    "lost",
    "revoked",
    "expired",
)
"""The states that end a task for this worker."""


class Escaped(ExceptionInfo):
    """An exception that left Celery's tracer, in a pool that runs tasks in this process.

    The tracer turns the exceptions of a task into an outcome. This one is raised by the tracer itself: storing the
    result failed, and storing that failure failed as well.
    """


class Listener:
    """Is notified of what happens to requests. The methods do nothing here; a listener overrides those it needs."""

    def accepted(self, request: Any) -> None:
        """The pool has started the task."""

    def run_ended(self, request: Any) -> None:
        """The run has ended, before Celery removes the request from its active set. May be called twice."""

    def takes_failure(self, request: Any, exc_info: Any, return_ok: bool) -> bool:  # noqa: ARG002 - for those who do
        """Handle a failed run instead of Celery; true if it was handled.

        Args:
            request: the request.
            exc_info: the failure, as reported by the pool.
            return_ok: whether the tracer has handled the failure (stored it, called `on_failure` of the task).
        """
        return False

    def failed(self, request: Any, error: BaseException) -> None:
        """A run has failed. Celery has handled this, or could not (its result backend is unreachable)."""

    def hard_limit_passed(self, request: Any, seconds: float) -> None:
        """The pool ends the task, because it has run longer than its hard time limit."""

    def reached(self, request: Any, state: str) -> None:
        """The task has reached one of `LAST_STATES`; called once."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The methods to call at each step, in order. Methods that a listener does not override are left out."""

    accepted: tuple[Callable[[Any], None], ...] = ()
    run_ended: tuple[Callable[[Any], None], ...] = ()
    takes_failure: tuple[Callable[[Any, Any, bool], bool], ...] = ()
    failed: tuple[Callable[[Any, BaseException], None], ...] = ()
    hard_limit_passed: tuple[Callable[[Any, float], None], ...] = ()
    reached: tuple[Callable[[Any, str], None], ...] = ()

    @classmethod
    def of(cls, listeners: Sequence[Listener]) -> Listeners:
        """Collect the methods that the listeners override."""
        steps = {
            name: tuple(getattr(it, name) for it in listeners if getattr(type(it), name) is not getattr(Listener, name))
            for name in cls.__slots__
        }
        return cls(**steps)


def install(app: Any, listeners: Sequence[Listener]) -> None:
    """Notify the listeners of every request of an application.

    Call this when all tasks are registered, before the consumer is created.

    Args:
        app: the application.
        listeners: notified in this order at each step.
    """
    put_before(app, RequestHooks, listeners=Listeners.of(listeners))


def put_before(app: Any, mixin: type, **members: Any) -> None:
    """Put a mixin before the request class of every task of an application.

    Tasks that share a request class share the new one too.

    Args:
        app: the application; all its tasks must be registered.
        mixin: its methods call those of Celery's class by `super()`.
        members: attributes of the new classes.
    """
    classes: dict[Any, Any] = {}
    for task in app.tasks.values():
        base = symbol_by_name(task.Request)
        if base not in classes:
            classes[base] = type("Request", (mixin, base), {**members, "__module__": mixin.__module__})
        task.Request = classes[base]


class RequestHooks(_Request):  # type: ignore[misc]  # a class of Celery's, chosen at run time
    """Notifies the listeners of what the parent process sees of a task. It comes before a Celery request class."""

    listeners = Listeners()
    given_back = False
    """Set when the message is handed back. What happens to the run afterwards does not count as a failure."""
    is_reported = False
    """Whether this task's failure has been reported."""
    had_succeeded = False
    """Whether the task had stored its result when its process was lost."""
    failure_name = ""
    """Class of the exception with which the run failed."""
    accepted_at: float | None = None
    """When the pool started the task, in seconds on the monotonic clock."""
    runtime_seconds: float | None = None
    """Run time that Celery's tracer has measured; `None` for a run that was ended from outside."""
    _has_reached_last_state = False
    _reference: Any = None
    _future: Any = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Celery makes a subclass for each task, with a faster `on_success` that does not call the base class.
        faster = cls.__dict__.get("on_success")
        if faster is not None:
            cls.on_success = _telling(faster)

    # --- what Celery calls

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self.accepted_at = time_accepted
        super().on_accepted(pid, time_accepted)
        for tell in self.listeners.accepted:
            tell(self)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        self.note_run_ended()
        if self.given_back:
            return None
        error, result = error_of(exc_info), None
        self.failure_name = type(error).__name__
        # An outcome that a child could not send to the parent comes without `return_ok`.
        return_ok = return_ok and not isinstance(exc_info, Escaped)
        try:
            if not any(take(self, exc_info, return_ok) for take in self.listeners.takes_failure):
                result = super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        finally:  # also if Celery raises: it stores the failure, and the result backend may be unreachable
            for tell in self.listeners.failed:
                tell(self, error)
        if not self.given_back:
            self._reach("succeeded" if self.had_succeeded else state_of(error))
        return result

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self.failure_name = TimeLimitExceeded.__name__
            self._reach("timed_out")
            for tell in self.listeners.hard_limit_passed:
                tell(self, timeout)
        super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self._reach("expired" if expired else "revoked")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _success_was_stored(self) -> Any:
        # If a process is lost after its task has succeeded, nothing is lost with it.
        stored = super()._success_was_stored()
        self.had_succeeded = bool(stored)
        return stored

    @property
    def _apply_result(self) -> Any:
        """Celery's weak reference to the pool's handle of this task; Celery sets it."""
        return self._reference

    @_apply_result.setter
    def _apply_result(self, reference: Any) -> None:
        self._reference = reference
        # No other code keeps the handle of a threads pool, so its future would be unreachable before the task starts.
        self._future = getattr(reference() if reference is not None else None, "f", None)

    # --- what this library calls

    def note_run_ended(self) -> None:
        """Notify the listeners that the run has ended, before Celery handles the end."""
        for tell in self.listeners.run_ended:
            tell(self)

    def keep_from_beginning(self) -> bool:
        """Remove the task from the pool's queue. False if it has started or cannot be kept from starting."""
        if self._reference is None:
            return True  # it has not been sent to the pool
        if remember_sent(self):
            return False  # a prefork pool cannot take it back, and is now notified of its end
        return self._future is not None and bool(self._future.cancel())

    def _reach(self, state: str) -> None:
        if self._has_reached_last_state:
            return
        self._has_reached_last_state = True
        for tell in self.listeners.reached:
            tell(self, state)


def _telling(on_success: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Celery's callback for a run that has ended, with or without an exception, to notify the listeners."""

    @functools.wraps(on_success)
    def callback(self: Any, failed__retval__runtime: Any, **options: Any) -> Any:
        for tell in self.listeners.run_ended:
            tell(self)
        failed, _, self.runtime_seconds = failed__retval__runtime
        if not failed:
            self._reach("succeeded")
        return on_success(self, failed__retval__runtime, **options)

    return callback


def error_of(exc_info: Any) -> BaseException:
    """The exception in the argument of `on_failure`. An exception from another process is wrapped in another one."""
    error: BaseException = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def state_of(error: BaseException) -> str:
    """The last state of a task whose run ended with this exception."""
    for kinds, state in (
        (Retry, "retried"),
        (Ignore, "ignored"),
        (Reject, "rejected"),
        (TimeLimitExceeded, "timed_out"),
        ((WorkerLostError, SystemExit, KeyboardInterrupt), "lost"),
    ):
        if isinstance(error, kinds):
            return state
    return "failed"
