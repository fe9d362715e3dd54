"""What the workers write down is read, and nothing that they did not write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celeriac_operator.autoscaling.brokers import layout
from celeriac_operator.autoscaling.brokers.layout import Layout, Workers

GOLDEN = json.loads((Path(__file__).parents[4] / "golden" / "figures.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["layouts"], ids=lambda case: case["case"])
def test_builds_the_keys_that_the_worker_library_uses(case: dict[str, object]) -> None:
    found = layout.read_layout(json.dumps(case["record"]).encode()) if case["record"] else Layout()
    assert found is not None
    assert list(found.lists(case["queue"])) == case["lists"]
    assert found.held(case["queue"]) == case["held"]


@pytest.mark.parametrize("case", GOLDEN["pools"], ids=lambda case: case["pool"])
def test_builds_the_keys_of_a_pool(case: dict[str, str]) -> None:
    assert (layout.workers_key(case["pool"]), layout.layout_key(case["pool"])) == (case["workers"], case["layout"])


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"prefix": 1, "prioritySteps": [0], "separator": ":"}',
        b'{"prefix": "", "prioritySteps": [], "separator": ":"}',
        b'{"prefix": "", "prioritySteps": ["0"], "separator": ":"}',
    ],
)
def test_a_record_that_is_none_is_not_believed(record: bytes) -> None:
    assert layout.read_layout(record) is None


@pytest.mark.parametrize(
    ("entries", "together"),
    [
        pytest.param([], Workers(), id="nobody"),
        pytest.param([GOLDEN["entry"]], Workers(4, 2, 3, 0.5), id="the golden entry"),
        pytest.param(
            [
                {"slots": 4, "busy": 1, "recentTasks": 1, "serviceSeconds": 4.0},
                {"slots": 4, "busy": 4, "recentTasks": 3, "serviceSeconds": 2.0},
            ],
            Workers(8, 5, 0, 2.5),
            id="who ran more tasks has more to say on how long they take",
        ),
        pytest.param([{"slots": 4, "busy": 0, "novel": 1}], Workers(4), id="a key of a newer library is passed over"),
        pytest.param([{"slots": -1, "busy": "2"}, [], "x"], Workers(), id="invalid entries do not count"),
    ],
)
def test_adds_up_what_workers_say(entries: list[object], together: Workers) -> None:
    assert layout.add_up(json.dumps(one).encode() for one in entries) == together
    assert layout.add_up([b"\xff", b""]) == Workers()


@pytest.mark.parametrize(
    ("published", "eta", "waited"),
    [
        pytest.param("990.5", "", 9.5, id="since it was published"),
        pytest.param("", "", None, id="nobody noted when"),
        pytest.param("990", "1970-01-01T00:16:38+00:00", 2.0, id="not before its time"),
        pytest.param("990", "1970-01-01T00:16:38", 2.0, id="a time without a zone is UTC"),
        pytest.param("990", "1970-01-01T00:20:00+00:00", 0.0, id="its time has not come"),
        pytest.param("1003", "", 0.0, id="a producer whose clock is ahead"),
        pytest.param("1.2.3", "", None, id="no number"),
        pytest.param("990", "soon", 10.0, id="an ETA that is none"),
    ],
)
def test_tells_how_long_a_message_has_waited(published: str, eta: str, waited: float | None) -> None:
    assert layout.waited_seconds(published, eta, now=1000.0) == waited
