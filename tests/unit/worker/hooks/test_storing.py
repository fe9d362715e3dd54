"""Errors of result backends are told apart, whatever backend it is, and no error leaves a result quietly lost."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import django.db.utils
import kombu.exceptions
import pytest
import redis.exceptions
import sqlalchemy.exc
from celery import Celery, states
from celery.backends.base import Backend
from celery.exceptions import BackendStoreError

from celeriac.hooks import storing


def of_library(base: str, name: str) -> BaseException:
    """An error of a client library that is not installed here, by the names of its classes."""
    return type(name, (type(base, (Exception,), {}),), {})()


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        pytest.param(ConnectionRefusedError(), "outage", id="a refused connection"),
        pytest.param(TimeoutError(), "outage", id="a time-out"),
        pytest.param(FileNotFoundError(), "outage", id="a folder that is not mounted"),
        pytest.param(sqlite3.OperationalError("unable to open database file"), "outage", id="DB-API: operational"),
        pytest.param(sqlite3.InterfaceError(), "outage", id="DB-API: interface"),
        pytest.param(sqlite3.DataError(), "refusal", id="DB-API: data"),
        pytest.param(sqlite3.IntegrityError(), "refusal", id="DB-API: integrity"),
        pytest.param(sqlite3.ProgrammingError(), "refusal", id="DB-API: programming"),
        pytest.param(django.db.utils.OperationalError(), "outage", id="Django: operational"),
        pytest.param(django.db.utils.DataError(), "refusal", id="Django: data"),
        pytest.param(sqlalchemy.exc.OperationalError("", {}, OSError()), "outage", id="SQLAlchemy: operational"),
        pytest.param(sqlalchemy.exc.DataError("", {}, OSError()), "refusal", id="SQLAlchemy: data"),
        pytest.param(kombu.exceptions.OperationalError(), "outage", id="results over a message broker"),
        pytest.param(of_library("ConnectionFailure", "AutoReconnect"), "outage", id="MongoDB"),
        pytest.param(of_library("Exception", "NoHostAvailable"), "outage", id="Cassandra"),
        pytest.param(of_library("HTTPClientError", "ReadTimeoutError"), "outage", id="DynamoDB and S3"),
        pytest.param(redis.exceptions.ReadOnlyError("write against a replica"), "outage", id="Redis refuses for now"),
        pytest.param(redis.exceptions.ResponseError("too large"), "neither", id="an answer of Redis"),
        pytest.param(ValueError(), "neither", id="anything else"),
    ],
)
def test_an_error_is(error: BaseException, verdict: str) -> None:
    found = {"outage": storing.is_outage(error), "refusal": storing.is_refusal(error)}
    assert found == {"outage": verdict == "outage", "refusal": verdict == "refusal"}


class Store(Backend):
    """A backend that knows nothing of what may be tried again, and fails as it is told to."""

    errors: tuple[Exception, ...] = ()

    def _store_result(self, *_: Any, **__: Any) -> None:
        *rest, error = self.errors
        type(self).errors = (*rest,) if rest else ()
        if error is not None:
            raise error

    def _sleep(self, amount: float) -> None:
        """No test waits."""


def a_backend(*errors: Any, retries: int = 2, **members: Any) -> Any:
    """The errors come from the last to the first; `None` is a try that succeeds."""
    kind: Any = type("Taught", (Store,), {"errors": (None, *errors), **members})
    app = Celery("unit", broker="memory://", backend=None, set_as_current=False)
    app.conf.update(result_backend_always_retry=True, result_backend_max_retries=retries)
    backend = kind(app=app)
    app._backend_cache = backend
    app.conf.result_backend_thread_safe = True
    storing.install(app)
    return backend


def test_an_outage_is_waited_for() -> None:
    backend = a_backend(sqlite3.OperationalError(), ConnectionResetError())
    assert backend.store_result("1", 5, states.SUCCESS) == 5


def test_an_outage_that_lasts_is_a_result_that_cannot_be_stored() -> None:
    backend = a_backend(*[sqlite3.OperationalError()] * 4)
    with pytest.raises(BackendStoreError):
        backend.store_result("1", 5, states.SUCCESS)


def test_a_refused_value_is_the_failure_of_its_task_alone() -> None:
    refused = sqlite3.DataError()
    backend = a_backend(refused)
    with pytest.raises(sqlite3.DataError):
        backend.store_result("1", 5, states.SUCCESS)
    backend.store_result("1", refused, states.FAILURE)


@pytest.mark.parametrize("error", [sqlite3.DataError(), ValueError(), redis.exceptions.ResponseError()], ids=repr)
def test_a_failure_that_cannot_be_stored_says_so_whatever_the_reason(error: Exception) -> None:
    with pytest.raises(BackendStoreError, match=type(error).__name__) as raised:
        a_backend(error).store_result("1", KeyError(), states.FAILURE)
    assert raised.value.__cause__ is error


def test_what_a_backend_itself_knows_still_holds() -> None:
    known = a_backend(ValueError(), exception_safe_to_retry=lambda _, error: isinstance(error, ValueError))
    assert known.store_result("1", 5, states.SUCCESS) == 5
    lost = a_backend(redis.exceptions.RedisError(), connection_errors=(redis.exceptions.RedisError,))
    assert lost.store_result("1", 5, states.SUCCESS) == 5


@pytest.mark.parametrize(
    ("error", "raised"), [(sqlite3.OperationalError(), BackendStoreError), (ValueError(), ValueError)], ids=repr
)
def test_a_backend_that_cannot_be_made_in_an_outage_cannot_store(error: Exception, raised: type[Exception]) -> None:
    backend = a_backend()
    backend.errors = error

    def prepare(*_: Any) -> None:
        raise error

    type(backend).prepare_expires = prepare
    with pytest.raises(raised):
        type(backend)(app=backend.app)


def test_a_class_is_taught_once_and_a_backend_that_cannot_be_made_is_left_to_celery() -> None:
    backend = a_backend()
    taught = type(backend).store_result
    storing.install(backend.app)
    assert type(backend).store_result is taught
    storing.install(SimpleNamespace(tasks={}))
