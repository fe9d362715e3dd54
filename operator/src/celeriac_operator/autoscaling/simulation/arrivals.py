"""Which tasks arrive when, and how long does each run? From a built-in shape, or from a file.

Every policy of a simulation gets the same tasks. The same seed gives the same tasks.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class UnusableTraceError(Exception):
    """The file is not a trace; the message names the line and what is expected there."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: when its message is sent, in seconds from the start, and how long it runs."""

    at: float
    service_seconds: float


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A built-in load: the rate of tasks per second at each moment, and the duration."""

    seconds: float
    rate: Callable[[float], float]
    meaning: str


def _burst(at: float) -> float:
    return 60.0 if 60 <= at < 80 else 0.0


def _ramp(at: float) -> float:
    return 20.0 * min(at, 1_200 - at) / 600


def _day(at: float) -> float:
    hour = at / 3_600
    office = max(0.0, math.sin(math.pi * (hour - 7) / 12)) if 7 <= hour < 19 else 0.0
    mailing = 8.0 if 9.5 <= hour < 9.6 or 14 <= hour < 14.1 else 0.0
    return 0.02 + 2.0 * office + mailing


SHAPES = {
    "burst": Shape(seconds=80, rate=_burst, meaning="a quiet minute, then 60 tasks a second for 20 seconds"),
    "ramp": Shape(seconds=1_200, rate=_ramp, meaning="from nothing to 20 tasks a second and back, in 20 minutes"),
    "day": Shape(seconds=86_400, rate=_day, meaning="a quiet night, office hours and two mailings"),
}


def _fixed(_: random.Random, mean: float) -> float:
    return mean


def _exponential(chance: random.Random, mean: float) -> float:
    return chance.expovariate(1 / mean)


def _lognormal(chance: random.Random, mean: float) -> float:
    # Sigma 1: a few tasks in a hundred take five times the mean. The subtraction keeps the mean.
    return chance.lognormvariate(math.log(mean) - 0.5, 1)


RUNTIMES = {"fixed": _fixed, "exponential": _exponential, "lognormal": _lognormal}


def build(shape: Shape, *, seed: int, mean_seconds: float, runtimes: str) -> list[Task]:
    """Draw random arrivals at the shape's rate, second by second, each with a runtime."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, not cryptography
    tasks: list[Task] = []
    for second in range(int(shape.seconds)):
        rate, at = shape.rate(second), float(second)
        while rate > 0 and (at := at + chance.expovariate(rate)) < second + 1:
            tasks.append(Task(at=at, service_seconds=RUNTIMES[runtimes](chance, mean_seconds)))
    return tasks


def parse(lines: Iterable[str], *, seed: int, mean_seconds: float, runtimes: str) -> list[Task]:
    """Read a trace: CSV with the column `at`, and optionally `seconds`; a missing runtime is drawn.

    Raises:
        UnusableTraceError: a line is not valid.
    """
    chance = random.Random(seed)  # noqa: S311 - a simulation, not cryptography
    rows = csv.DictReader(lines)
    if "at" not in (rows.fieldnames or ()):
        raise UnusableTraceError("line 1: the first line must name the columns: `at`, or `at,seconds`")
    tasks: list[Task] = []
    for row in rows:
        at = _seconds(row["at"], "at", rows.line_num)
        given = row.get("seconds")
        runtime = _seconds(given, "seconds", rows.line_num) if given else RUNTIMES[runtimes](chance, mean_seconds)
        tasks.append(Task(at=at, service_seconds=runtime))
    if not tasks:
        raise UnusableTraceError("no tasks: each line after the first is one task, such as `12.5` or `12.5,0.8`")
    return sorted(tasks, key=lambda task: task.at)


def _seconds(text: str | None, column: str, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UnusableTraceError(f"line {line}: `{column}` must be seconds from the start, such as 12.5, not {text!r}")
    return value
