"""Treats a Redis that answers but refuses commands as if it were unavailable.

A replica after a failover, a full disk, full memory, a busy script, missing rights: in all these cases waiting is
right, as after a lost connection. redis-py raises `ResponseError` for them. kombu and Celery treat that as a
programming error, and the worker ends. The connections of our transport raise `RefusedError` instead. It is also an
`OSError`, after which kombu and Celery connect again.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from celeriac.store import error_replies
from celeriac.store.error_replies import Kind


class RefusedError(ResponseError, OSError):
    """Redis refuses temporarily; the text is the server's error with its prefix."""


def refusal(error: ResponseError) -> RefusedError | None:
    """Return the error to raise instead if waiting may help, else `None`."""
    if isinstance(error, RefusedError):
        return error
    text = error_replies.text_of(error)
    return None if error_replies.kind_of(text) is Kind.MISTAKE else RefusedError(text)


def refusing(connection_class: type[Any]) -> type[Any]:
    """Return a connection class that raises `RefusedError` where waiting may help."""

    class Refusing(connection_class):  # type: ignore[misc]  # a class made at run time
        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().read_response(*args, **kwargs)
            except ResponseError as error:
                refused = refusal(error)
                if refused is None:
                    raise
                raise refused from error

    Refusing.__name__ = connection_class.__name__
    return Refusing
