"""How deliveries end."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.delivery.values import outcomes
from celeriac.delivery.values.outcomes import Outcome

NOW = 1_700_000_000.0


def a_message(**properties: Any) -> dict[str, Any]:
    return {"body": "e30=", "headers": {"task": "t"}, "properties": {"delivery_tag": "x", **properties}}


def give_back(payload: dict[str, Any], outcome: Outcome = Outcome.REQUEUED) -> dict[str, Any]:
    return outcomes.given_back(payload, outcome, now=NOW, where="pod-1", why="because")


@pytest.mark.parametrize(
    ("outcome", "counted", "front"),
    [
        (Outcome.RETURNED, False, True),
        (Outcome.REQUEUED, True, False),
        (Outcome.EXPIRED, True, True),
        (Outcome.UNKNOWN_TASK, True, False),
    ],
    ids=lambda it: it.value if isinstance(it, Outcome) else "",
)
def test_each_way_back_has_its_place_and_its_price(outcome: Outcome, counted: bool, front: bool) -> None:
    back = give_back(a_message(), outcome)
    assert outcomes.deliveries(back) == int(counted)
    assert outcome.goes_to_front is front
    assert back["properties"]["delivery_info"]["redelivered"] is True


def with_eta(seconds: float, zone: str = "+00:00") -> dict[str, Any]:
    """A message whose ETA is this number of seconds away, written in a time zone."""
    moment = dt.datetime.fromtimestamp(NOW + seconds, dt.timezone.utc)
    moment = moment.astimezone(dt.datetime.fromisoformat(f"2020-01-01T00:00:00{zone}").tzinfo)
    return {"headers": {"task": "t", "eta": moment.isoformat()}, "properties": {}}


@given(st.floats(-1e6, 1e6), st.sampled_from(["+00:00", "-11:00", "+05:45", "+14:00"]), st.sampled_from(Outcome))
def test_a_dead_workers_message_is_counted_unless_its_task_cannot_have_begun(
    seconds: float, zone: str, outcome: Outcome
) -> None:
    back = give_back(with_eta(seconds, zone), outcome)
    spared = outcome is Outcome.EXPIRED and seconds > outcomes.SKEW_SECONDS + 0.001
    if abs(seconds - outcomes.SKEW_SECONDS) > 0.001:
        assert outcomes.deliveries(back) == int(outcome.is_counted and not spared)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"eta": None},
        {"eta": 5},
        {"eta": ""},
        {"eta": "soon"},
        {"eta": "2999-01-01T00:00:00"},
        {"eta": "9999-12-31T23:59:59-14:00"},
        {"eta": "0001-01-01T00:00:00+14:00"},
        {"eta": {"__type__": "datetime", "__value__": "2999-01-01T00:00:00+00:00"}},
        [1],
    ],
    ids=str,
)
def test_an_eta_that_is_none_or_has_no_zone_spares_no_delivery(headers: Any) -> None:
    back = give_back({"headers": headers, "properties": {}}, Outcome.EXPIRED)
    assert outcomes.deliveries(back) == int("9999" not in str(headers))


def test_history_says_when_where_and_why() -> None:
    record = give_back(give_back(a_message()))["properties"]["celeriac"]
    assert record["deliveries"] == 2
    assert record["history"] == [{"at": NOW, "where": "pod-1", "why": "because"}] * 2


def test_history_is_bounded_and_the_count_is_not() -> None:
    payload = a_message()
    for _ in range(outcomes.HISTORY_LENGTH + 5):
        payload = give_back(payload)
    assert len(payload["properties"]["celeriac"]["history"]) == outcomes.HISTORY_LENGTH
    assert outcomes.deliveries(payload) == outcomes.HISTORY_LENGTH + 5


@pytest.mark.parametrize(
    ("past", "limit", "expected"),
    [(0, 1, False), (1, 1, True), (4, 5, False), (5, 5, True), (100, None, False)],
    ids=["fresh", "one delivery used up", "the last one", "all used up", "no limit"],
)
def test_a_message_is_dead_lettered_when_its_deliveries_are_used_up(
    past: int, limit: int | None, expected: bool
) -> None:
    why = outcomes.why_given_up(a_message(celeriac={"deliveries": past}), limit)
    assert (why is not None) is expected


@pytest.mark.parametrize(
    "record",
    [None, "x", [], {}, {"deliveries": "many"}, {"deliveries": -1}],
    ids=["none", "a text", "a list", "an empty one", "no number", "a negative number"],
)
def test_a_record_that_makes_no_sense_counts_as_none(record: Any) -> None:
    assert outcomes.deliveries(a_message(celeriac=record)) == 0
    assert outcomes.deliveries(give_back(a_message(celeriac=record))) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["body", "headers", "content-type", "x"]), json_values))
def test_nothing_else_in_a_message_changes(rest: dict[str, Any]) -> None:
    payload = {**rest, "properties": {"priority": 3}}
    back = give_back(payload)
    assert {name: value for name, value in back.items() if name != "properties"} == rest
    assert back["properties"]["priority"] == 3
    assert payload["properties"] == {"priority": 3}
