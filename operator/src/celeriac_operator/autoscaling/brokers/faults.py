"""What went wrong with a broker's server, in words that are the operator's own?

A server's text is never repeated: a person who chooses the address of a broker must not read in the status of a pool
what another service answers. Known errors have a sentence each.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import aiohttp
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac_operator.autoscaling.brokers.readings import AuthenticationFailed, BrokerError, Misbehaving, Unreachable
from celeriac_operator.autoscaling.brokers.resolving import BusyError, ForbiddenAddressError

CODES: Final = {
    "ASK": "it is a cluster, which Celery does not support",
    "BUSY": "it is running a script",
    "CLUSTERDOWN": "its cluster is down",
    "DENIED": "it is in protected mode",
    "ERR": "it refuses a command of the operator",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "its master is down",
    "MISCONF": "it cannot save its data",
    "MOVED": "it is a cluster, which Celery does not support",
    "NOPERM": "its ACL forbids the operator a command or a key",
    "NOSCRIPT": "its scripts were flushed",
    "OOM": "its memory is full",
    "READONLY": "it is a read-only replica",
    "TRYAGAIN": "it is a cluster, which Celery does not support",
    "UNBLOCKED": "it is becoming a replica",
    "WRONGTYPE": "a key has another type than Celery's",
}
"""What the first word of an error of Redis means."""

CLOSED: Final = "the server has closed the connection"

NETWORK: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLError, "TLS failed: it may not speak TLS, or not accept the operator"),
    (socket.gaierror, "its host name cannot be resolved"),
    (aiohttp.ServerDisconnectedError, CLOSED),
    (ConnectionResetError, CLOSED),
    (BrokenPipeError, CLOSED),
    (TimeoutError, "it does not respond in time"),
    (RedisTimeoutError, "it does not respond in time"),
)
"""Errors of the network; the first that fits."""


def read(error: BaseException, *, server: str) -> BrokerError:
    """The error of a server, such as `Redis at redis:6379`, as one of this room's errors."""
    for cause in _chain(error):
        if isinstance(cause, BrokerError):
            return type(cause)(f"{server} {cause}")
        if isinstance(cause, AuthenticationError):
            return AuthenticationFailed(f"{server} refuses the user or the password of the broker URL")
    what = describe(error)
    if what is None:
        return Misbehaving(f"{server} does not answer as such a broker does")
    return Unreachable(f"{server} cannot be read: {what}")


def describe(error: BaseException) -> str | None:
    """What happened; None: the server answered something that no such server answers."""
    for cause in _chain(error):
        if isinstance(cause, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
            return None
        if isinstance(cause, ResponseError):
            code = cause.status_code or str(cause).partition(" ")[0]
            return CODES.get(code, CODES["ERR"])
        found = _network(cause)
        if found is not None:
            return found
    # Of redis-py's own errors most wrap one of the above; the others say that the connection has ended.
    return CLOSED if isinstance(error, RedisError | EOFError) else None


def _network(cause: BaseException) -> str | None:
    if isinstance(cause, BusyError | ForbiddenAddressError):
        return str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    for kind, words in NETWORK:
        if isinstance(cause, kind):
            return words
    is_named = isinstance(cause, OSError) and isinstance(cause.errno, int)
    return os.strerror(cause.errno) if is_named else None  # type: ignore[attr-defined]  # it is an OSError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, at most ten."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
