"""An error of a server becomes a sentence of the operator's own, whatever the server has said."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from redis import exceptions

from celeriac_operator.autoscaling.brokers import faults
from celeriac_operator.autoscaling.brokers.readings import AuthenticationFailed, BrokerError, Misbehaving, Unreachable
from celeriac_operator.autoscaling.brokers.resolving import BusyError, ForbiddenAddressError

SAID = "secret-of-another-service\n2026-01-01 INFO forged"


@pytest.mark.parametrize("kind", [exceptions.ResponseError, exceptions.ReadOnlyError, exceptions.NoPermissionError])
@pytest.mark.parametrize("code", [*faults.CODES, "SECRET", ""])
def test_an_error_of_redis_is_known_by_its_first_word(kind: type[exceptions.ResponseError], code: str) -> None:
    found = faults.read(kind(f"{code} {SAID}"), server="Redis at h:1")
    assert str(found) == f"Redis at h:1 cannot be read: {faults.CODES.get(code, faults.CODES['ERR'])}"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (exceptions.AuthenticationError(SAID), AuthenticationFailed, "refuses the user or the password"),
        (exceptions.ConnectionError(SAID), Unreachable, faults.CLOSED),
        (exceptions.TimeoutError(SAID), Unreachable, "does not respond in time"),
        (TimeoutError(), Unreachable, "does not respond in time"),
        (socket.gaierror(-2, SAID), Unreachable, "its host name cannot be resolved"),
        (ConnectionRefusedError(errno.ECONNREFUSED, SAID), Unreachable, "Connection refused"),
        (ssl.SSLError(1, SAID), Unreachable, "TLS failed"),
        (BusyError("too many names are being resolved"), Unreachable, "too many names"),
        (ForbiddenAddressError("169.254.1.1 is not an address"), Unreachable, "169.254.1.1 is not an address"),
        (ValueError(SAID), Misbehaving, "does not answer as such a broker does"),
        (AttributeError(SAID), Misbehaving, "does not answer"),
        (RecursionError(SAID), Misbehaving, "does not answer"),
        (Misbehaving("sends too much"), Misbehaving, "sends too much"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_other_error_has_words_of_its_own(error: Exception, kind: type[BrokerError], words: str) -> None:
    found = faults.read(error, server="Redis at h:1")
    assert type(found) is kind
    assert words in str(found)
    assert "secret" not in str(found)


def test_the_reason_is_found_behind_what_the_library_raises() -> None:
    wrapped = exceptions.ConnectionError(SAID)
    wrapped.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "x")
    assert str(faults.read(wrapped, server="Redis at h:1")) == "Redis at h:1 cannot be read: Connection refused"
