"""A message of AMQP keeps the record of its deliveries in a header, and a dead letter keeps the whole message."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.delivery.values import amqp, outcomes
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.delivery.values.outcomes import Outcome


def given_back(headers: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    payload = outcomes.given_back(amqp.record(headers), outcome, now=1.0, where="shop/pod-1", why="it was lost")
    return amqp.with_record(headers, payload, is_plain=True)


def test_the_count_travels_from_copy_to_copy() -> None:
    headers: dict[str, Any] = {"task": "t", "id": "1"}
    for count in range(1, 30):
        headers = given_back(headers, Outcome.REQUEUED)
        assert outcomes.deliveries(amqp.record(headers)) == count
    assert len(json.loads(headers[amqp.RECORD])["history"]) == outcomes.HISTORY_LENGTH
    assert given_back(headers, Outcome.RETURNED)[amqp.RECORD] == headers[amqp.RECORD]


def test_a_body_that_was_decompressed_is_not_called_compressed() -> None:
    payload = {"properties": {}}
    assert amqp.with_record({"compression": "gzip", "id": "1"}, payload, is_plain=True) == {"id": "1"}
    kept = amqp.with_record({"compression": "gzip", "id": "1"}, payload, is_plain=False)
    assert kept == {"compression": "gzip", "id": "1"}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="absent"),
        pytest.param(7, id="a number"),
        pytest.param("{", id="not JSON"),
        pytest.param("[1]", id="a list"),
        pytest.param('{"deliveries": "many"}', id="a count that is a text"),
        pytest.param('{"deliveries": -4}', id="a negative count"),
        pytest.param("[" * 50_000, id="nested too deeply"),
        pytest.param('"' + "x" * 200_000 + '"', id="too long"),
    ],
)
def test_a_record_that_somebody_else_wrote_counts_nothing_and_raises_nothing(value: object) -> None:
    assert outcomes.deliveries(amqp.record({amqp.RECORD: value})) == 0
    assert outcomes.deliveries(amqp.record(given_back({amqp.RECORD: value}, Outcome.EXPIRED))) == 1


texts = st.text(max_size=20)
headers_of = st.dictionaries(texts.filter(lambda it: it != amqp.RECORD), texts | st.integers() | st.none(), max_size=5)


@given(body=st.binary(max_size=50), headers=headers_of, priority=st.none() | st.integers(0, 9), queue=texts)
def test_a_dead_letter_is_requeued_as_it_was(
    body: bytes, headers: dict[str, Any], priority: int | None, queue: str
) -> None:
    properties = {"priority": priority, "correlation_id": "c", "reply_to": "r", "cluster_id": "dropped"}
    payload = amqp.dead_payload(
        body=body, content_type="application/json", content_encoding="utf-8", headers=headers, properties=properties
    )
    entry = DeadEntry.of(payload, queue=queue, why="why", where="where", now=2.0)
    kept, _, _ = amqp.written(entry, "entry-1")
    read = amqp.read(kept, queue="other")
    assert read == entry
    again = read.payload()
    assert again is not None
    assert amqp.published(again) == (
        body,
        headers,
        {
            "correlation_id": "c",
            "reply_to": "r",
            **({} if priority is None else {"priority": priority}),
            "content_type": "application/json",
            "content_encoding": "utf-8",
        },
    )


def test_values_that_json_does_not_have_become_text() -> None:
    headers = {"bytes": b"\xff", "date": datetime(2026, 1, 2, tzinfo=timezone.utc), "id": "1", "task": "t"}
    payload = amqp.dead_payload(
        body=b"", content_type=None, content_encoding=None, headers=headers, properties={"timestamp": headers["date"]}
    )
    read = DeadEntry.of(payload, queue="q", why="", where="", now=0.0).payload()
    assert read is not None
    assert read["headers"]["date"] == "2026-01-02 00:00:00+00:00"


@given(body=st.binary(max_size=200))
def test_an_entry_that_somebody_else_wrote_is_read_as_far_as_it_goes(body: bytes) -> None:
    assert amqp.read(body, queue="q").queue == "q"


@pytest.mark.parametrize(("deliveries", "expected"), [(0, 5), (1, 10), (4, 60), (900, 60), (-3, 5)])
def test_the_delay_grows_with_each_delivery(deliveries: int, expected: int) -> None:
    assert amqp.delay_seconds(deliveries) == expected
