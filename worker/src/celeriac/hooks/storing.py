"""When is storing a result tried again, and when does it count as impossible?

Celery asks each result backend whether an error is worth another try. Few know (Redis does; Redis of Celery 5.4, SQL of
Celery before 5.7 and django-db mostly do not), and an error that is not known passes the tracer: the message is settled
and the result lost. Here every backend that the application uses is asked in the same way, and answers by what PEP 249
and client libraries call their errors:

- an outage (OperationalError, InterfaceError, a lost connection, a time-out) is tried again, as long as the broker is;
- a refusal (DataError, IntegrityError, ProgrammingError) is not: another try would be refused too. It is the failure of
  its task alone, as long as that failure can be stored;
- a failure that cannot be stored either, whatever the error, is `BackendStoreError`: the backend is of no use now.
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
        "OperationalError",  # PEP 249: not under the programmer's control; kombu's, SQLAlchemy's and Django's likewise
        "InterfaceError",  # PEP 249: of the interface, such as a connection that is closed already
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
"""Names of error classes, or of their bases: no client library needs to be there for another's sake."""
REFUSALS: Final = frozenset({"DataError", "IntegrityError", "ProgrammingError", "NotSupportedError"})
"""PEP 249: errors of the value or of the statement."""


def is_outage(error: BaseException) -> bool:
    """Does an error mean that the backend cannot be reached, or cannot work, at the moment?"""
    if isinstance(error, (OSError, EOFError)):  # with ConnectionError and TimeoutError
        return True
    if error_replies.is_worth_waiting(error):  # Redis answers and refuses, as a replica does after a failover
        return True
    return not OUTAGES.isdisjoint(_names(error))


def is_refusal(error: BaseException) -> bool:
    """Does an error mean that the backend is there and refuses the value?"""
    return not REFUSALS.isdisjoint(_names(error))


def install(app: Any) -> None:
    """Let all result backends that an application's tasks use tell outages apart; once its tasks are known."""
    with contextlib.suppress(Exception):  # one that cannot be made is what Celery itself says at the start
        backends = [app.backend, *(task.backend for task in app.tasks.values())]
        for kind in dict.fromkeys(map(type, backends)):
            if not issubclass(kind, DisabledBackend):
                _teach(kind)


def _teach(kind: Any) -> None:
    """Change the class: Celery makes an instance for each thread, from the application's settings."""
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
            # Celery stores the failure to store a success, which may be possible (a value that was refused).
            if state == states.SUCCESS or isinstance(error, (BackendStoreError, MemoryError)):
                raise
            reason = f"failed to store result on the backend: {type(error).__name__}"
            raise BackendStoreError(reason, task_id=task_id, state=state) from error  # type: ignore[call-arg]  # the stubs do not know them

    return store_result


def _saying_that_it_is_away(make: Callable[..., None]) -> Callable[..., None]:
    """SQLAlchemy's makes its tables when it is made, which each thread of a pool does for itself."""

    @functools.wraps(make)
    def __init__(backend: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the class's
        try:
            make(backend, *args, **kwargs)
        except Exception as error:
            if not is_outage(error):
                raise
            raise BackendStoreError(f"the result backend cannot be used: {type(error).__name__}") from error

    return __init__


def _forget_django_connections() -> None:
    """Django keeps a connection that is broken until somebody asks it not to; the next try would use it."""
    database = sys.modules.get("django.db")
    if database is not None:
        with contextlib.suppress(Exception):  # no settings: Django is installed, and not used
            database.close_old_connections()


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
