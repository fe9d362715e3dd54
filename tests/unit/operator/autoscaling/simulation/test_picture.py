"""Axes of the pictures are read at a glance: round numbers, round times, and the first run above the others."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator.autoscaling.simulation import picture
from celeriac_operator.autoscaling.simulation.run import Run, Sample

SVG = "{http://www.w3.org/2000/svg}"


def a_run(*replicas: int) -> Run:
    samples = tuple(
        Sample(at=float(at), replicas=number, backlog=10 * number, oldest_wait_seconds=number / 2)
        for at, number in enumerate(replicas)
    )
    return Run(arrived=1, done=1, waiting=0, running=0, waits=(), samples=samples, replica_hours=0.0)


@given(st.floats(0, 1e7))
def test_steps_of_values_are_round_and_few(most: float) -> None:
    step = picture.value_step(most)
    assert re.fullmatch(r"[125]0*", f"{step:.0f}")
    assert math.ceil(most / step) <= 4


@given(st.floats(1, 7 * 86_400))
def test_times_are_round_and_few_and_begin_at_zero(seconds: float) -> None:
    marks = picture.times(seconds)
    assert marks[0] == 0
    assert marks[-1] <= seconds
    assert 2 <= len(marks) <= picture.MOST_TICKS + 1
    if seconds >= 120:
        assert all(mark % 10 == 0 for mark in marks)
    if seconds >= 600:
        assert all(mark % 60 == 0 for mark in marks)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (120, "2:00"), (3600, "1:00:00"), (5400, "1:30:00")])
def test_a_time_is_written_as_people_do(seconds: int, shown: str) -> None:
    assert picture.clock(seconds) == shown


def test_an_axis_has_marks_that_people_would_choose() -> None:
    assert picture.times(680) == [0, 120, 240, 360, 480, 600]
    assert [picture.value_step(most) for most in (3, 24, 40, 60, 1153)] == [1, 10, 10, 20, 500]


@pytest.mark.parametrize("runs", [{}, {"one": a_run()}, {"one": a_run(0)}, {"a": a_run(0, 5, 0), "b": a_run(1, 1)}])
def test_a_picture_is_xml_whatever_the_runs_are(runs: dict[str, Run]) -> None:
    ET.fromstring(picture.draw("<a & b>", runs, seconds=10, max_replicas=5))  # noqa: S314 -- our own text


def test_the_first_run_is_drawn_last_and_the_limit_is_one_straight_line() -> None:
    text = picture.draw("x", {"ours": a_run(0, 5, 0), "theirs": a_run(0, 4, 0)}, seconds=3, max_replicas=6)
    root = ET.fromstring(text)  # noqa: S314 -- our own text
    drawn = [path.get("class") for path in root.iter(f"{SVG}path") if path.get("fill") == "none"]
    assert drawn == ["run1", "run0"] * 3
    (limit,) = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == "limit"]
    assert re.fullmatch(r"M60 [0-9.]+H840", limit or "")
    assert "prefers-color-scheme: dark" in text


def test_a_limit_that_is_far_away_does_not_flatten_the_picture() -> None:
    assert 'class="limit"' not in picture.draw("x", {"ours": a_run(0, 5, 0)}, seconds=3, max_replicas=40)
