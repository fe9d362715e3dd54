"""When does the worker try to connect to the broker again, and when does it give up?

The consumer uses this module for every connection: at start and after each loss. The promise: the pauses between
attempts are `initial` seconds, twice that, four times that ... up to `max` seconds. Each pause is shortened by a random
part, so that the workers of a pool do not all reconnect at the same moment. After `max_retries` failed attempts in a
row the worker ends, with a message that names the broker without its password. A pause is split into slices, and the
caller is called between them, so that the worker obeys SIGTERM within a fraction of a second.

Wrong credentials are not an outage: waiting does not correct them, and only a new container reads a renewed Secret.
They are retried only `CREDENTIAL_RETRIES` times in a row, because a server that is starting can refuse them too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from celeriac.backoff import Retry
from celeriac.exits import Exit, GivingUpError, scrub
from celeriac.store import error_replies

CREDENTIAL_RETRIES: Final = 3
WAIT_SLICE_SECONDS: Final = 0.2
REFUSALS: Final = {"AuthenticationError", "AuthenticationWrongNumberOfArgsError", "AccessRefused"}
"""Exceptions of redis-py and py-amqp. They are compared by name, so that neither library has to be installed."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt to connect, as passed to the caller."""

    error: BaseException
    retries: int
    """Number of attempts before this one, without the first."""
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class RefusedConnections:
    """Consecutive connections that succeeded, but on which the broker refused the worker's requests."""

    count: int
    error: BaseException


def connect(
    connection: Any,
    retry: Retry,
    *,
    on_failure: Callable[[FailedAttempt], None],
    while_waiting: Callable[[], None],
    refused: RefusedConnections | None = None,
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Any:
    """Connect a kombu connection. `retry` sets the number of attempts and the pauses.

    `on_failure` is called after each failed attempt. `while_waiting` is called between the slices of a pause, and may
    raise. With `refused`, earlier connections succeeded but their requests were refused: they count as attempts, and
    the first new attempt is made after a pause. If there are several broker URLs, each failure moves on to the next
    URL, and there is a pause only after all of them have failed.

    Raises:
        GivingUpError: all retries have failed.
    """
    from kombu.exceptions import OperationalError

    retries, refusals = refused.count - 1 if refused else 0, 0
    while True:
        try:
            if refused is None:
                return connection.ensure_connection(max_retries=0)
            cause, refused = refused.error, None
        except (*connection.recoverable_connection_errors, OperationalError) as error:
            cause = error.__cause__ if isinstance(error, OperationalError) and error.__cause__ else error
        refusals = refusals + 1 if is_refusal(cause) else 0
        if refusals > CREDENTIAL_RETRIES or retry.is_exhausted(retries):
            raise GivingUpError(why_given_up(shown(connection), cause, retries), Exit.BROKER)
        delay = retry.delay_seconds(retries, chance()) if connection.completes_cycle(retries) else 0.0
        on_failure(FailedAttempt(cause, retries, delay))
        connection.maybe_switch_next()
        _wait(delay, while_waiting, sleep)
        retries += 1


def shown(connection: Any) -> str:
    """The broker URL of a connection, without its password."""
    url = scrub(str(connection.as_uri()))
    return url if connection.password else url.replace("**@", "", 1)  # kombu shows a mask even if there is no password


def said(error: BaseException) -> str:
    """The message of an error, in one line and without secrets."""
    return scrub(" ".join(error_replies.said(str(error)).split())).rstrip(".") or type(error).__name__


def is_refusal(error: BaseException) -> bool:
    """Whether the broker refused the credentials."""
    return any(cls.__name__ in REFUSALS for cls in type(error).__mro__)


def refuses_requests(error: BaseException) -> bool:
    """Whether the broker answers but refuses the worker's requests. The class is compared by name, as above."""
    return any(cls.__name__ == "RefusedError" for cls in type(error).__mro__)


def why_given_up(where: str, error: BaseException, retries: int) -> str:
    """The message for the person who has to act; `where` is the broker URL without its password."""
    if is_refusal(error):
        return (
            f"The broker {where} refuses the credentials ({said(error)}): put the right password into the Secret that "
            "broker.urlFrom names; the next start of the container reads it"
        )
    if refuses_requests(error):
        meaning = error_replies.meaning_of(str(error))
        return f"The broker {where} refuses requests, giving up after {retries} retries: {meaning} ({said(error)})"
    return f"The broker {where} could not be reached after {retries} retries, giving up: {said(error)}"


def _wait(seconds: float, between: Callable[[], None], sleep: Callable[[float], None]) -> None:
    between()
    while seconds > 0:
        sleep(min(WAIT_SLICE_SECONDS, seconds))
        seconds -= WAIT_SLICE_SECONDS
        between()
