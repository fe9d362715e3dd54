"""What happens when the result of a finished task cannot be stored?

Celery retries according to its settings, and then gives up. A prefork worker settles the message, and the result is
lost. In a threads pool the error is lost, and a task that seems to run holds the message forever. The same would happen
to every later task. With this module, the message goes back to its queue, which counts as a delivery, and the worker
ends with one sentence that says why. Waiting messages are safe in the queue, and Kubernetes restarts the worker after
growing pauses.

Promise: a task that is acknowledged late runs again until its result is stored, or until it has used up its deliveries
and is dead-lettered. A task that was acknowledged early has no message any more, and its result is lost. If the backend
works but refuses a value (too large), only that task fails.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery.concurrency.prefork import TaskPool as Prefork
from celery.exceptions import BackendStoreError
from celery.worker import state

from celeriac.exceptions import TaskExitError
from celeriac.exits import Exit, GivingUpError
from celeriac.hooks import bodies, requests

logger = logging.getLogger(__name__)
"""Logs the reason for giving up. Sentry already has the failure of the task."""


def escaped(error: BaseException) -> requests.Escaped:
    """Convert the exception that is being handled into the failure that is passed to the request."""
    if isinstance(error, Exception) and not isinstance(error, MemoryError):
        return requests.Escaped()
    try:
        raise TaskExitError(bodies.described(error)) from error  # noqa: TRY301 - so that it has a traceback
    except TaskExitError:
        return requests.Escaped()


def guard(pool: Any) -> None:
    """Make a pool that runs tasks in this process report exceptions that leave the tracer, as billiard does."""
    if isinstance(pool, Prefork):
        return
    apply_async = pool.apply_async

    def guarded(target: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def run(*its_args: Any, **its_kwargs: Any) -> Any:
            try:
                return target(*its_args, **its_kwargs)
            except BaseException as error:  # the request needs every failure, or its message is held forever
                if bodies.ends_the_run(error):
                    raise
                return 1, escaped(error), 0.0

        return apply_async(run, *args, **options)

    pool.apply_async = guarded


class ResultsGivenUp(requests.Listener):
    """Hands a message back when its result could not be stored, and ends the worker, once.

    Args:
        app: the application. Its settings say where results are stored and how often storing is retried.
        say: called once, with the reason.
        begin_drain: starts the drain, which limits the time of the tasks that still run. They may fail in the same way.
    """

    def __init__(self, app: Any, say: Callable[[GivingUpError], object], begin_drain: Callable[[], object]) -> None:
        self.app = app
        self.say = say
        self.begin_drain = begin_drain
        self._lock = threading.Lock()
        self._has_said = False

    def takes_failure(self, request: Any, exc_info: Any, return_ok: bool) -> bool:
        """Hand the message back. False for any other failure."""
        if return_ok or not isinstance(requests.error_of(exc_info), BackendStoreError):
            return False
        state.task_ready(request)
        request.given_back = True
        request.reject(requeue=True)
        self._end_worker(request.name, request.id)
        return True

    def _end_worker(self, name: str, task_id: str) -> None:
        with self._lock:
            if self._has_said:
                return
            self._has_said = True
        giving_up = GivingUpError(
            f"The result of {name}[{task_id}] could not be stored in {self.app.backend.as_uri()} after "
            f"{self.app.conf.result_backend_max_retries} retries, giving up; the task runs again",
            Exit.RESULT_BACKEND,
        )
        self.say(giving_up)
        self.begin_drain()
        # This ends the consumer's loop in its next turn.
        state.should_stop = int(giving_up.code)  # type: ignore[assignment]  # the stubs know only its first value
