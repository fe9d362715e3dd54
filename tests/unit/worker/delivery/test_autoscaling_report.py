"""What a worker tells the autoscaler, in the words that the operator reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kombu.transport.redis import Channel

from celeriac.delivery.autoscaling_report import (
    KOMBUS_SEPARATOR,
    KOMBUS_STEPS,
    AutoscalingReport,
    Recent,
    layout_record,
)
from celeriac.metrics.tally import Snapshot
from celeriac.store import keys

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "figures.json").read_text())
OPTIONS = {"prefix": "global_keyprefix", "prioritySteps": "priority_steps", "separator": "sep"}


@pytest.mark.parametrize("case", GOLDEN["pools"], ids=lambda case: case["pool"])
def test_a_pools_keys_are_those_that_the_operator_reads(case: dict[str, str]) -> None:
    assert (keys.workers(case["pool"]), keys.layout(case["pool"])) == (case["workers"], case["layout"])


@pytest.mark.parametrize("case", GOLDEN["layouts"], ids=lambda case: case["case"])
def test_lists_are_named_as_the_operator_reads_the_record(case: dict[str, Any]) -> None:
    options = {OPTIONS[key]: value for key, value in (case["record"] or {}).items()}
    record = json.loads(layout_record(options))
    assert case["record"] in (record, None)
    steps, separator = record["prioritySteps"], record["separator"]
    lists = [f"{record['prefix']}{case['queue']}{f'{separator}{step}' if step else ''}" for step in steps]
    assert (lists, keys.held(case["queue"], prefix=record["prefix"])) == (case["lists"], case["held"])


def test_the_defaults_are_kombus() -> None:
    assert (list(KOMBUS_STEPS), KOMBUS_SEPARATOR) == (Channel.priority_steps, Channel.sep)


def test_an_entry_has_the_keys_that_the_operator_reads() -> None:
    figures = AutoscalingReport("shop/mail", {}, worker=lambda: None, counted=Snapshot)
    figures._recent.add(20, 10.0)
    _, number, entry = figures.say()
    assert json.loads(entry).keys() == GOLDEN["entry"].keys()
    assert figures.say()[1] > number, "the newer word has the higher number"


def test_the_mean_runtime_is_that_of_recent_tasks() -> None:
    recent = Recent()
    assert recent.said() == {}, "nobody knows before the first task"
    recent.add(10, 100.0)
    assert recent.said() == {"recentTasks": 10, "serviceSeconds": 10.0}
    for more in range(1, 41):
        recent.add(10 + more, 100.0 + more)
    assert recent.said() == {"recentTasks": 20, "serviceSeconds": 1.0}, "what is long ago counts no more"
    recent.add(50, 140.0)
    assert recent.said()["recentTasks"] == 20, "without a new task the last ones stay the recent ones"
