"""What the caller of a message is told that a worker refuses on a broker that keeps its own acknowledgements."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.message import Message

from celeriac.delivery.callers import Callers
from celeriac.delivery.refusing import NoRefusals


@pytest.fixture
def app() -> Iterator[Celery]:
    it = Celery("app", broker="memory://", backend="cache+memory://", set_as_current=False)
    yield it
    it.close()


def message(headers: Any, body: Any = b"[[], {}, {}]", **fields: Any) -> Message:
    return Message(
        body=body,
        headers=headers,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={"routing_key": "emails"},
        **fields,
    )


@pytest.mark.parametrize(
    "refused",
    [
        message({"task": "shop.send", "id": "5", "retries": "many"}),
        message({"task": "shop.send", "id": "5"}, body=b"\xff\x00 no JSON"),
        message({"task": "shop.send", "id": "5"}, body=memoryview(b"[1]"), properties={"reply_to": "x"}),
        message({"task": "shop.send", "id": "5", "x": dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)}),
        message({}, body=b'{"task": "shop.send", "id": "5", "args": 1}'),
    ],
    ids=[
        "a header of a wrong type",
        "a body that is no JSON",
        "a short body",
        "a header that is a time",
        "protocol 1",
    ],
)
def test_the_result_of_a_refused_call_is_a_failure_that_says_why(app: Celery, refused: Message) -> None:
    refusals = NoRefusals(Callers(app))
    assert not refusals.refuse(refused, "its retries are 'many'"), "Celery rejects it"
    refusals.leave()
    result = app.AsyncResult("5")
    assert result.state == "FAILURE"
    assert type(result.result).__name__ == "DeadLetterError"
    assert "its retries are 'many'" in str(result.result)
    assert "emails; a queue with a dead-letter exchange keeps it" in str(result.result)


@pytest.mark.parametrize("headers", [{"a": object()}, {"id": None}, {}, None, {1: {2: b"\xff"}}, {(1, 2): 3}])
def test_a_message_that_names_no_call_is_left_to_celery(app: Celery, headers: Any) -> None:
    logging.getLogger("celeriac.delivery.refusing").disabled = False
    refusals = NoRefusals(Callers(app))
    assert not refusals.refuse(message(headers), "it names no task")
    refusals.leave()
