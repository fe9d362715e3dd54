from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError

from celeriac.backoff import Retry
from celeriac.exits import Exit, GivingUpError
from celeriac.hooks import broker


class FakeConnection:
    """Fails as it is told to, in the shape of a kombu connection."""

    recoverable_connection_errors = (OSError, AuthenticationError)

    def __init__(self, *failures: BaseException, hosts: int = 1, password: str | None = None) -> None:
        self.failures = list(failures)
        self.hosts = hosts
        self.switched = 0
        self.password = password

    def ensure_connection(self, max_retries: int) -> FakeConnection:
        assert max_retries == 0
        if self.failures:
            raise self.failures.pop(0)
        return self

    def completes_cycle(self, retries: int) -> bool:
        return (retries + 1) % self.hosts == 0

    def maybe_switch_next(self) -> None:
        self.switched += 1

    def as_uri(self) -> str:
        return "redis://:**@redis:6379/0"


class Outside:
    """Records what a connection attempt does to the world."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.asked = 0
        self.failed: list[broker.FailedAttempt] = []

    def connect(self, connection: FakeConnection, retry: Retry) -> Any:
        return broker.connect(
            connection,
            retry,
            on_failure=self.failed.append,
            while_waiting=self.ask,
            sleep=self.sleep,
            chance=lambda: 0.0,
        )

    def ask(self) -> None:
        self.asked += 1

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_a_broker_that_answers_is_connected_without_a_word() -> None:
    outside, connection = Outside(), FakeConnection()
    assert outside.connect(connection, Retry()) is connection
    assert (outside.failed, outside.slept) == ([], 0)


def test_attempts_follow_each_other_with_growing_delays() -> None:
    outside = Outside()
    outside.connect(FakeConnection(*[OSError("refused")] * 4), Retry(initial_seconds=1, max_seconds=5))
    assert [(it.retries, it.delay_seconds) for it in outside.failed] == [(0, 1), (1, 2), (2, 4), (3, 5)]
    assert outside.slept == pytest.approx(12)


def test_a_caller_is_asked_during_each_wait_and_may_stop_it() -> None:
    class StopError(Exception):
        pass

    outside = Outside()

    def ask() -> None:
        outside.asked += 1
        if outside.asked == 7:
            raise StopError

    outside.ask = ask  # type: ignore[method-assign]
    with pytest.raises(StopError):
        outside.connect(FakeConnection(OSError()), Retry(initial_seconds=30))
    assert outside.slept == pytest.approx(6 * broker.WAIT_SLICE_SECONDS)


def test_when_the_retries_are_used_up_a_sentence_says_so() -> None:
    outside = Outside()
    with pytest.raises(GivingUpError) as giving_up:
        outside.connect(FakeConnection(*[OSError("Connection refused.")] * 9), Retry(max_retries=2, initial_seconds=0))
    assert giving_up.value.code == Exit.BROKER
    assert str(giving_up.value) == (
        "The broker redis://redis:6379/0 could not be reached after 2 retries, giving up: Connection refused"
    )
    assert len(outside.failed) == 2


def test_the_cause_is_told_and_not_kombus_wrapping_of_it() -> None:
    error = OperationalError("wrapped")
    error.__cause__ = OSError("the cause")
    outside = Outside()
    outside.connect(FakeConnection(error), Retry(initial_seconds=0))
    assert str(outside.failed[0].error) == "the cause"


def test_refused_credentials_are_given_up_soon_and_name_the_secret() -> None:
    refused = AuthenticationError("invalid username-password pair")
    with pytest.raises(GivingUpError, match=r"refuses the credentials \(invalid username-password pair\)") as giving_up:
        Outside().connect(FakeConnection(*[refused] * 50, password="hunter2"), Retry(max_retries=50, initial_seconds=0))
    assert "the Secret that broker.urlFrom names" in str(giving_up.value)
    assert "redis://**@redis:6379/0" in str(giving_up.value)


def test_a_broker_that_refuses_only_while_it_starts_is_waited_for() -> None:
    refused = [AuthenticationError("not yet")] * broker.CREDENTIAL_RETRIES
    outside = Outside()
    outside.connect(FakeConnection(*refused, OSError(), *refused), Retry(initial_seconds=0))
    assert len(outside.failed) == 2 * broker.CREDENTIAL_RETRIES + 1


def test_with_several_urls_each_is_tried_before_anybody_waits() -> None:
    outside, connection = Outside(), FakeConnection(*[OSError()] * 4, hosts=3)
    outside.connect(connection, Retry(initial_seconds=1))
    assert [it.delay_seconds for it in outside.failed] == [0, 0, 4, 0]
    assert connection.switched == 4
