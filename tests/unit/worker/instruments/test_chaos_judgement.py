"""What the fault campaign finds in a journal: losses, repetitions without a reason, broken policies."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.worker import plan, strays
from tests.chaos.worker.__main__ import build_parser
from tests.chaos.worker.judgement import Limits, judge, read

PAGE = Path(__file__).parents[4] / "docs" / "project" / "worker-campaign.md"
LIMITS = Limits(lease=8, lock=8, throttle=2)
Record = dict[str, Any]


def sent(
    number: int, task: str = "plain", *, at: float = 0, published: bool | None = True, took: float = 0, eta: float = 0
) -> Record:
    return {
        "what": "sent",
        "at": at + took,
        "asked": at,
        "countdown": eta,
        "number": number,
        "task": task,
        "key": "k",
        "published": published,
    }


def run(
    number: int, at: float, done: float | None, *, worker: str = "w1", pid: int = 1, fence: int | None = None
) -> list[Record]:
    """One delivery that began; `done=None`: it did not come to its end."""
    delivery = {"number": number, "delivery": f"{worker}:{number}:{at}", "worker": worker, "pid": pid, "fence": fence}
    records = [{"what": what, "at": at, **delivery} for what in ("taken", "began")]
    if done is not None:
        records += [{"what": what, "at": done, **delivery} for what in ("done", "left")]
    return records


def ended(worker: str, at: float) -> Record:
    return {"what": "ended", "worker": worker, "at": at}


def away(since: float, until: float) -> Record:
    return {"what": "away", "since": since, "at": until}


def paused(worker: str, since: float, until: float) -> Record:
    return {"what": "paused", "worker": worker, "since": since, "at": until}


def stepped(host: str, at: float, by: float) -> Record:
    return {"what": "clock", "host": host, "at": at, "by": by}


def failover(since: float, until: float) -> Record:
    return {"what": "failover", "since": since, "until": until, "at": until}


CHILD_ENDED = {"what": "child ended", "pid": 7, "worker": "w1", "at": 1.5}


@pytest.mark.parametrize(
    "records",
    [
        [sent(1), *run(1, 1, 2)],
        [sent(1), *run(1, 1, None), ended("w1", 2), *run(1, 9, 10, worker="w2")],
        [sent(1), *run(1, 1, None), *run(1, 4, 5, worker="w2"), ended("w1", 4.5)],
        [sent(1), *run(1, 1, 1.5), ended("w1", 2), *run(1, 9, 10, worker="w2")],
        [sent(1), *run(1, 1, None, pid=7), CHILD_ENDED, *run(1, 2, 3)],
        [sent(1), *run(1, 1, 30), paused("w1", 2, 14), *run(1, 12, 13, worker="w2")],
        [sent(1), *run(1, 1, 2), away(1.9, 20), ended("w1", 20), *run(1, 25, 26, worker="w2")],
        [
            sent(1, "exclusive"),
            sent(2, "exclusive"),
            *run(1, 1, None, fence=5),
            ended("w1", 2),
            *run(2, 2.5, 3, fence=6, worker="w2"),
            *run(1, 9, 10, fence=7, worker="w2"),
        ],
        [sent(1, "exclusive"), *run(1, 1, 2), away(0.5, 1.5)],
        [
            sent(1, "throttled", at=0),
            sent(2, "throttled", at=1, published=False),
            sent(3, "throttled", at=2.1),
            *run(1, 1, 2),
            *run(3, 3, 4),
        ],
        [sent(1, took=3, published=None), away(1, 2), *run(1, 4, 5), *run(1, 6, 7)],
        [sent(1, published=None)],
        [sent(1, at=2), failover(1, 5)],
        [sent(1), failover(1, 5), *run(1, 4, 6), *run(1, 8, 9)],
        [sent(1), failover(5, 9), *run(1, 1, 4), *run(1, 20, 21)],
        [sent(1, eta=5), stepped("w1", 1, 16), *run(1, 1, 2)],
        [sent(1, eta=5), *run(1, 5.01, 6)],
        [sent(1, "throttled"), sent(2, "throttled", at=1), stepped("redis", 0.5, 16), *run(1, 1, 2), *run(2, 3, 4)],
        [
            sent(1, "throttled"),
            sent(2, "throttled", at=9, published=False),
            stepped("redis", 0.5, -16),
            *run(1, 1, 2),
        ],
        [
            sent(1, "exclusive"),
            sent(2, "exclusive"),
            stepped("redis", 1.5, 16),
            *run(1, 1, 3, fence=5),
            *run(2, 2, 4, fence=6),
        ],
    ],
    ids=[
        "run once",
        "killed while it ran",
        "handed back by a worker that was about to end",
        "killed just after its end",
        "its child killed",
        "its worker paused for longer than the lease",
        "its end not settled while Redis was away",
        "an exclusive run killed, the next in turn",
        "without a lock while Redis is away",
        "throttled",
        "published again because Redis went away before it answered",
        "perhaps published",
        "published to a primary that was replaced",
        "taken from a primary that was replaced",
        "settled at a primary that was replaced",
        "early by its worker's clock",
        "at its time",
        "two in a window that Redis' clock has ended",
        "dropped in a window that Redis' clock has lengthened",
        "together after Redis' clock has ended the lock",
    ],
)
def test_what_a_fault_explains_is_no_violation(records: list[Record]) -> None:
    assert judge(read(records, LIMITS)).violations == []


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([sent(1)], "task 1 is lost"),
        ([sent(1), *run(1, 1, None), ended("w1", 2)], "task 1 is lost"),
        ([sent(1), *run(1, 1, 2), *run(1, 3, 4)], "only 0 of its deliveries"),
        ([sent(1), *run(1, 1, 2), ended("w1", 20), *run(1, 29, 30, worker="w2")], "only 0 of its deliveries"),
        ([sent(1), *run(1, 1, 2), ended("w9", 2), *run(1, 3, 4)], "only 0 of its deliveries"),
        ([sent(1), *run(1, 1, 2), *run(1, 3, None), ended("w1", 9)], "only 0 of its deliveries"),
        ([sent(1), *run(1, 1, 30), paused("w1", 2, 4), *run(1, 12, 13, worker="w2")], "only 0 of its deliveries"),
        (
            [sent(1), *run(1, 1, None), ended("w1", 2), *run(1, 9, 10, worker="w2"), *run(1, 11, 12, worker="w3")],
            "3. time, in w3, and only 1",
        ),
        (
            [sent(1, "exclusive"), sent(2, "exclusive"), *run(1, 1, 3, fence=5), *run(2, 2, 4, fence=6)],
            "tasks 1 and 2 of exclusive/k ran at the same time",
        ),
        (
            [sent(1, "exclusive"), sent(2, "exclusive"), *run(1, 1, 2, fence=5), *run(2, 3, 4, fence=5)],
            "the fence of exclusive/k did not grow",
        ),
        ([sent(1, "exclusive"), *run(1, 1, 2)], "without its lock while Redis answered"),
        (
            [sent(1, "throttled", at=0), sent(2, "throttled", at=1), *run(1, 1, 2), *run(2, 3, 4)],
            "both published in one window",
        ),
        ([sent(1, "throttled", published=False)], "dropped outside any window"),
        ([sent(1, "throttled", published=False), *run(1, 1, 2)], "ran though it was not published"),
        ([sent(1, took=3), away(4, 5), *run(1, 6, 7), *run(1, 8, 9)], "only 0 of its deliveries"),
        ([sent(1), failover(1, 5)], "task 1 is lost"),
        ([sent(1), failover(15, 19), *run(1, 1, 4), *run(1, 20, 21)], "only 0 of its deliveries"),
        ([sent(1, eta=5), *run(1, 1, 2)], "began 4.00 s before its ETA"),
        ([sent(1), stepped("redis", 2, 16), *run(1, 1, 4), *run(1, 3, 5, worker="w2")], "only 0 of its deliveries"),
        (
            [
                sent(1, "throttled"),
                sent(2, "throttled", at=30, published=False),
                stepped("redis", 0.5, -16),
                *run(1, 1, 2),
            ],
            "dropped outside any window",
        ),
    ],
    ids=[
        "never run",
        "killed and not run again",
        "run twice for no reason",
        "its worker ended long after",
        "another worker ended",
        "its worker ended after the repetition",
        "a pause shorter than the lease",
        "one kill does not explain two repetitions",
        "exclusive runs together",
        "one fence twice",
        "no lock",
        "two in a window",
        "dropped for no reason",
        "not published and run",
        "an outage after the call was published",
        "published before a failover",
        "settled long before a failover",
        "before its ETA",
        "run twice after a step of Redis' clock",
        "dropped after a window that Redis' clock has lengthened",
    ],
)
def test_what_no_fault_explains_is_found(records: list[Record], said: str) -> None:
    violations = judge(read(records, LIMITS)).violations
    assert any(said in it for it in violations), violations


def test_each_repetition_is_explained() -> None:
    records = [sent(1), *run(1, 1, None), ended("w1", 2), *run(1, 9, 10, worker="w2")]
    assert judge(read(records, LIMITS)).explanations == [
        "task 1 began for the 2. time, in w2: w1 ended 1.0 s after it had taken the message"
    ]


def test_a_malformed_message_has_one_dead_letter_and_a_good_one_none() -> None:
    marks = {"stray-1.": "cut", "stray-2.": "no id"}
    assert list(strays.judge(marks, [b"x stray-1. y", b"stray-2."])) == []
    assert list(strays.judge(marks, [b"stray-1.", b"stray-1.", b"hello"])) == [
        "a good message was dead-lettered: b'hello'",
        "the malformed message stray-1. (cut) has 2 dead letters",
        "the malformed message stray-2. (no id) has 0 dead letters",
    ]


def test_the_same_seed_gives_the_same_plan_and_a_short_plan_has_every_kind() -> None:
    first, second = (plan.build(4, seconds=60, pause_seconds=12, gap_seconds=(0.5, 2)) for _ in range(2))
    assert first == second
    assert {it.kind for it in first[: len(plan.Kind)]} == set(plan.Kind)
    assert plan.build(5, seconds=60, pause_seconds=12, gap_seconds=(0.5, 2)) != first


def test_the_commands_of_the_page_are_understood() -> None:
    commands = re.findall(r"^make chaos-worker(?: ARGS=\"(.*)\")?$", PAGE.read_text(), re.MULTILINE)
    assert commands
    for arguments in commands:
        build_parser().parse_args(shlex.split(arguments))
