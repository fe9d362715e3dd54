"""When is storing a result retried, and when is it impossible?

Celery asks each result backend whether to retry after an error. Only some backends can tell: Redis can; Redis in Celery
5.4, SQL before Celery 5.7 and django-db mostly cannot. If a backend cannot tell, the error leaves the tracer, the
message is settled and the result is lost. With this module, every backend that the application uses classifies errors
in the same way, by the names that PEP 249 and client libraries give them:

- An outage (OperationalError, InterfaceError, a lost connection, a timeout) is retried, for as long as the broker is.
- A refusal (DataError, IntegrityError, ProgrammingError) is not retried, because the backend would refuse it again.
  Only its task fails, provided that this failure can be stored.
- If the failure cannot be stored either, `BackendStoreError` is raised, whatever the error: the backend is unusable.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from celery import states
from celery.backends.base import DisabledBackend
from celery.exceptions import BackendStoreError

from celeriac.store import error_replies

OUTAGES: Final = frozenset(
    {
        "OperationalError",  # PEP 249: "not under the control of the programmer"; also in kombu, SQLAlchemy and Django
        "InterfaceError",  # PEP 249: an error of the interface, such as a connection that is already closed
        "ConnectionFailure",  # pymongo
        "NoHostAvailable",  # cassandra-driver
        "OperationTimedOut",
        "Unavailable",
        "ConnectionTimeout",  # elasticsearch
        "EndpointConnectionError",  # botocore
        "HTTPClientError",
        "RequestException",  # requests, for backends that speak HTTP
        "ServiceRequestError",  # azure-core
        "ServiceUnavailable",  # google-api-core
    }
)
"""Names of error classes or of their base classes. Comparing names means that no client library has to be installed."""
REFUSALS: Final = frozenset({"DataError", "IntegrityError", "ProgrammingError", "NotSupportedError"})
"""PEP 249: errors in the value or in the statement."""


def is_outage(error: BaseException) -> bool:
    """Whether an error means that the backend is unreachable, or cannot work at the moment."""
    if isinstance(error, (OSError, EOFError)):  # includes ConnectionError and TimeoutError
        return True
    if error_replies.is_worth_waiting(error):  # Redis answers and refuses, as a replica does after a failover
        return True
    return not OUTAGES.isdisjoint(_names(error))


def is_refusal(error: BaseException) -> bool:
    """Whether an error means that the backend works and refuses the value."""
    return not REFUSALS.isdisjoint(_names(error))


def install(app: Any) -> None:
    """Make all result backends of an application's tasks recognize outages. Call this when tasks are registered."""
    with contextlib.suppress(Exception):  # if a backend cannot be created, Celery itself reports this at start
        backends = [app.backend, *(task.backend for task in app.tasks.values())]
        for kind in dict.fromkeys(map(type, backends)):
            if not issubclass(kind, DisabledBackend):
                _teach(kind)


def _teach(kind: Any) -> None:
    """Change the class, because Celery creates an instance for each thread, from the application's settings."""
    if "_celeriac_is_taught" in vars(kind):
        return
    kind._celeriac_is_taught = True
    kind.exception_safe_to_retry = _told_apart(kind.exception_safe_to_retry)
    kind.store_result = _saying_what_failed(kind.store_result)
    kind.__init__ = _saying_that_it_is_away(kind.__init__)


def _told_apart(is_safe: Callable[..., Any]) -> Callable[..., bool]:
    @functools.wraps(is_safe)
    def exception_safe_to_retry(backend: Any, error: BaseException) -> bool:
        if isinstance(error, getattr(backend, "connection_errors", ())) or is_outage(error):
            _forget_django_connections()
            return True
        return not is_refusal(error) and bool(is_safe(backend, error))

    return exception_safe_to_retry


def _saying_what_failed(store: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(store)
    def store_result(backend: Any, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return store(backend, task_id, result, state, *args, **kwargs)
        except Exception as error:
            # If storing a success fails, Celery stores that failure. This may work (if the value was refused).
            if state == states.SUCCESS or isinstance(error, (BackendStoreError, MemoryError)):
                raise
            reason = f"failed to store result on the backend: {type(error).__name__}"
            raise BackendStoreError(reason, task_id=task_id, state=state) from error  # type: ignore[call-arg]  # the stubs do not know them

    return store_result


def _saying_that_it_is_away(make: Callable[..., None]) -> Callable[..., None]:
    """Report an outage while a backend is created. SQLAlchemy's creates its tables then, in each thread of a pool."""

    @functools.wraps(make)
    def __init__(backend: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the method of the class
        try:
            make(backend, *args, **kwargs)
        except Exception as error:
            if not is_outage(error):
                raise
            raise BackendStoreError(f"the result backend cannot be used: {type(error).__name__}") from error

    return __init__


def _forget_django_connections() -> None:
    """Close broken Django connections. Django keeps them otherwise, and the next try would use them."""
    database = sys.modules.get("django.db")
    if database is not None:
        with contextlib.suppress(Exception):  # no settings: Django is installed but not used
            database.close_old_connections()


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
