"""How does a Redis that answers, and refuses, come to count as one that is away?

A replica after a failover, a full disk, a full memory, a busy script, missing rights: waiting is right for all of them,
as for a lost connection. redis-py raises `ResponseError` for them, which kombu and Celery take for a programming error:
it ends the worker. The connections of our transport raise `RefusedError` instead, which is also an `OSError`, and so is
one of the errors after which kombu and Celery connect again.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from celeriac.store import error_replies
from celeriac.store.error_replies import Kind


class RefusedError(ResponseError, OSError):
    """Redis refuses for the time being; the text is the server's error with its prefix."""


def refusal(error: ResponseError) -> RefusedError | None:
    """The error to raise instead, if waiting may help."""
    if isinstance(error, RefusedError):
        return error
    text = error_replies.text_of(error)
    return None if error_replies.kind_of(text) is Kind.MISTAKE else RefusedError(text)


def refusing(connection_class: type[Any]) -> type[Any]:
    """A connection class that raises `RefusedError` where it applies."""

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
