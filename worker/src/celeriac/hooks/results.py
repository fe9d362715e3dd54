"""What happens when the result of a finished task cannot be stored?

Celery tries as long as the settings say, and then gives the result up: a prefork worker settles the message, and the
result is lost; in a pool of threads the error gets lost instead, and the message is held for ever by a task that seems
to run. Every task that follows would fare the same. Here the message goes back to its queue, which counts a delivery,
and the worker ends with one sentence: what waits is safe in the queue, and Kubernetes starts the next worker with
growing pauses.

Promise: a task that is acknowledged late runs again until its result is stored, or until it has used its deliveries up
and is a dead letter. One that was acknowledged early has no message any more, and its result is lost. A value that the
backend refuses (too large) while it is there is a failure of its task alone.
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
"""Says the sentence; Sentry has the failure of the task already."""


def escaped(error: BaseException) -> requests.Escaped:
    """What to tell the request of an exception that is being handled."""
    if isinstance(error, Exception) and not isinstance(error, MemoryError):
        return requests.Escaped()
    try:
        raise TaskExitError(bodies.described(error)) from error  # noqa: TRY301 - so that it has a traceback
    except TaskExitError:
        return requests.Escaped()


def guard(pool: Any) -> None:
    """Let a pool that runs tasks in this process tell what came out of a run, as billiard does for its children."""
    if isinstance(pool, Prefork):
        return
    apply_async = pool.apply_async

    def guarded(target: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def run(*its_args: Any, **its_kwargs: Any) -> Any:
            try:
                return target(*its_args, **its_kwargs)
            except BaseException as error:  # whatever it is, the request must be told, or its message is held for ever
                if bodies.ends_the_run(error):
                    raise
                return 1, escaped(error), 0.0

        return apply_async(run, *args, **options)

    pool.apply_async = guarded


class ResultsGivenUp(requests.Listener):
    """Gives a message back when the result of its run was given up, and ends the worker, once.


    Args:
        app: the application, which knows where results go and how often that is tried.
        say: told the sentence, once.
        begin_drain: starts the drain's clock: tasks that still run fare the same, and their time is bounded.
    """

    def __init__(self, app: Any, say: Callable[[GivingUpError], object], begin_drain: Callable[[], object]) -> None:
        self.app = app
        self.say = say
        self.begin_drain = begin_drain
        self._lock = threading.Lock()
        self._has_said = False

    def takes_failure(self, request: Any, exc_info: Any, return_ok: bool) -> bool:
        """Give the message back; false for any other failure."""
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
        # The consumer's loop ends with it in its next turn.
        state.should_stop = int(giving_up.code)  # type: ignore[assignment]  # the stubs know only its first value
