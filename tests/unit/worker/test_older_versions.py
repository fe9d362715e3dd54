"""What cannot work with older releases than the library supports is left off, and said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk.consts
from redis.connection import Connection

from celeriac.delivery.transport import tracking
from celeriac.failures.sentry import client


class ConnectionOfRedis4:
    """As far as it concerns announcements."""

    def __init__(self, host: str = "localhost") -> None: ...

    def read_response(self) -> str:
        return "what came"


@pytest.fixture
def redis_4(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tracking, "AbstractConnection", ConnectionOfRedis4)
    monkeypatch.setattr("redis.__version__", "4.6.0")
    tracking.speaks_resp3.cache_clear()
    yield
    tracking.speaks_resp3.cache_clear()


@pytest.mark.usefixtures("redis_4")
def test_queues_are_polled_with_redis_py_4_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    params: dict[str, Any] = {}
    for _ in range(3):
        params = tracking.parameters({"connection_class": ConnectionOfRedis4})
    assert "protocol" not in params
    assert params["connection_class"]().read_response(push_request=True) == "what came"
    assert caplog.messages == ["redis-py 4.6.0 does not speak RESP3: queues are polled (from 5.0 on it does)"]


def test_queues_announce_themselves_with_todays_redis_py(caplog: pytest.LogCaptureFixture) -> None:
    assert tracking.parameters({"connection_class": Connection})["protocol"] == 3
    assert caplog.messages == []


def test_failures_are_not_reported_with_sentry_sdk_1_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sentry_sdk.consts, "VERSION", "1.45.0")
    assert client._load_sdk() is None
    assert caplog.messages == [
        "sentry: the image has sentry-sdk 1.45.0, failures are not reported; 2 or later is needed"
    ]


def test_a_tasks_arguments_are_kept_out_of_events_that_show_them_in_any_case() -> None:
    seen: list[Any] = []

    def of_the_application(event: Any, hint: Any) -> Any:
        seen.append((event, hint))
        return event

    event = {"extra": {"celery-job": {"task_name": "shop.order", "args": ["4111"], "kwargs": {"code": "123"}}}}
    expected = {"task_name": "shop.order", "args": "[Filtered]", "kwargs": "[Filtered]"}
    kept_back = client._without_arguments(of_the_application)(event, {"a": "hint"})
    assert kept_back["extra"] == {"celery-job": expected}
    assert seen == [(event, {"a": "hint"})], "what the application has given comes after"


@pytest.mark.parametrize("event", [{}, {"extra": None}, {"extra": {}}], ids=str)
def test_an_event_of_no_task_stays_as_it_is(event: dict[str, Any]) -> None:
    assert client._without_arguments(None)(dict(event), {}) == event
