"""Which log records the SDK is told of."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from sentry_sdk.integrations.logging import LoggingIntegration

from celeriac.failures.sentry import records


def a_client(**options: Any) -> Any:
    client = SimpleNamespace(integrations={"logging": LoggingIntegration()}, options=options)
    records.pass_over(client)
    return client


@pytest.mark.parametrize(
    ("name", "level", "is_kept"),
    [
        pytest.param("celery.worker.strategy", logging.INFO, False, id="that a task was received is not a breadcrumb"),
        pytest.param("celery.worker.strategy", logging.ERROR, True, id="that it could not be is one"),
        pytest.param("celery.app.trace", logging.INFO, False, id="that a run succeeded is none"),
        pytest.param("celery.app.trace", logging.ERROR, True, id="that a run failed is one"),
        pytest.param("shop.orders", logging.INFO, True, id="what the application says is one"),
    ],
)
def test_breadcrumbs(name: str, level: int, is_kept: bool) -> None:
    handler: Any = a_client().integrations["logging"]._breadcrumb_handler
    record = logging.LogRecord(name, level, __file__, 1, "it happens", (), None)
    assert bool(handler.filter(record)) is is_kept


@pytest.mark.skipif(not hasattr(LoggingIntegration(), "_sentry_logs_handler"), reason="the SDK knows no logs yet")
def test_records_are_offered_to_sentrys_logs_where_the_application_wants_them() -> None:
    assert a_client().integrations["logging"]._sentry_logs_handler is None
    assert a_client(enable_logs=True).integrations["logging"]._sentry_logs_handler is not None


def test_an_application_that_takes_the_logging_integration_out_gets_its_way() -> None:
    records.pass_over(SimpleNamespace(integrations={}, options={}))
