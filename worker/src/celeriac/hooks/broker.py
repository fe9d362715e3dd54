"""When is the broker tried again, and when is it given up?

Used by the consumer whenever it needs a connection: at start and after each loss. The promise: attempts follow each
other after `initial`, twice that, four times that ... up to `max` seconds, each shortened by a random part, so that a
pool whose broker comes back does not fall upon it in one instant; after `max_retries` attempts in a row the worker
ends with a sentence that names the broker without its password. Whoever waits is asked between two slices of
waiting, so SIGTERM is obeyed within a fraction of a second.

Wrong credentials are no outage: waiting does not cure them, and only a new container reads a renewed Secret. They
are retried `CREDENTIAL_RETRIES` times in a row, since a server that is just starting can refuse them too.
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
"""Exceptions of redis-py and py-amqp, by name: neither library needs to be there for the other's sake."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt that failed, as the caller is told about it."""

    error: BaseException
    retries: int
    """Attempts before this one, the first not counted."""
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Refusals:
    """Connections in a row that were made, and on which the broker refused what a worker does."""

    count: int
    error: BaseException


def connect(
    connection: Any,
    retry: Retry,
    *,
    on_failure: Callable[[FailedAttempt], None],
    while_waiting: Callable[[], None],
    refused: Refusals | None = None,
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Any:
    """Connect a kombu connection, as often and as patiently as `retry` says.

    `on_failure` is told of each failed attempt; `while_waiting` is called between slices of waiting and may raise.
    With `refused`, earlier connections succeeded and were of no use: they count as attempts, and the first pause comes
    before the first new attempt. With several broker URLs each failure moves on to the next, and only a whole round of
    failures waits.

    Raises:
        GivingUpError: the retries are used up.
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
    """The URL of the broker that a connection is for, without its password."""
    url = scrub(str(connection.as_uri()))
    return url if connection.password else url.replace("**@", "", 1)  # kombu masks one that is not there, too


def said(error: BaseException) -> str:
    """What an error says, in one line and without secrets."""
    return scrub(" ".join(error_replies.said(str(error)).split())).rstrip(".") or type(error).__name__


def is_refusal(error: BaseException) -> bool:
    """Did the broker refuse our credentials?"""
    return any(cls.__name__ in REFUSALS for cls in type(error).__mro__)


def refuses_requests(error: BaseException) -> bool:
    """Does the broker answer, and refuse what a worker does? Known by name, as above."""
    return any(cls.__name__ == "RefusedError" for cls in type(error).__mro__)


def why_given_up(where: str, error: BaseException, retries: int) -> str:
    """The sentence for the person who has to act; `where` is the broker's URL without its password."""
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
