"""What workers reply, right or wrong, and what it adds up to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator.decide import work
from celeriac_operator.decide.work import WorkerReport

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)

TASK = {"name": "shop.mail", "id": "id-1", "seconds": 90.4, "hard_limit_seconds": None}
STATUS: dict[str, Any] = {
    "busy": 1,
    "slots": 2,
    "consuming": True,
    "broker_away_seconds": None,
    "broker_error": "",
    "work": {
        "oldest": TASK,
        "stuck": 0,
        "stuck_task": None,
        "succeeded": 4,
        "failed": 2,
        "dead_letters": 1,
        "out_of_memory": 0,
        "failures": [{"task": "shop.mail", "id": "id-0", "exception": "ValueError", "seconds_ago": 3.5}],
    },
}


def read(said: object, *, later: float = 0, before: WorkerReport | None = None) -> WorkerReport | None:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return work.read(body, pod="emails-1", now=NOON + timedelta(seconds=later), before=before)


def report(**changes: Any) -> WorkerReport:
    found = read({**STATUS, **changes})
    assert found is not None
    return found


def test_a_reply_is_read() -> None:
    found = report()
    assert (found.busy, found.slots, found.succeeded, found.failed, found.dead_letters) == (1, 2, 4, 2, 1)
    assert found.oldest is not None
    assert (found.oldest.name, found.oldest.started_at) == ("shop.mail", datetime(2026, 5, 4, 11, 58, 29, tzinfo=UTC))
    assert found.last_failure == work.Failure(task="shop.mail", id="id-0", exception="ValueError")


def test_a_task_that_goes_on_keeps_its_start() -> None:
    """Else each reply would change the status of a pool in which nothing happens."""
    first = report()
    later = {**STATUS, "work": {**STATUS["work"], "oldest": {**TASK, "seconds": 99.9}}}
    second = read(later, later=10, before=first)
    assert second is not None
    assert second.oldest == first.oldest
    another = read({**STATUS, "work": {**STATUS["work"], "oldest": {**TASK, "seconds": 3}}}, later=10, before=first)
    assert another is not None
    assert another.oldest != first.oldest


def test_an_older_library_says_less() -> None:
    found = read({"busy": 1, "prefetched": 0})
    assert found is not None
    assert (found.busy, found.slots, found.oldest, found.failed, found.consuming) == (1, 0, None, 0, False)


ODD = st.sampled_from(
    [None, True, False, -1, 0, 7, 10**30, -0.5, 1.5, 1e300, float("nan"), "", "x" * 900, "\x1b[31m\n", "\u202e", [], {}]
)
FIELDS = st.sampled_from([*STATUS, *STATUS["work"]])
TASKS = st.dictionaries(st.sampled_from([*TASK, *STATUS["work"]["failures"][0]]), ODD, max_size=5)


@given(
    st.dictionaries(FIELDS, ODD, max_size=4),
    st.dictionaries(FIELDS, ODD | TASKS | TASKS.map(lambda it: [it]), max_size=4),
)
def test_whatever_a_pod_replies_the_report_is_bounded(top: dict[str, Any], inner: dict[str, Any]) -> None:
    found = read(json.dumps({**STATUS, **top, "work": {**STATUS["work"], **inner}}).encode())
    if found is None:
        return
    counts = (found.slots, found.busy, found.stuck, found.succeeded, found.failed, found.dead_letters)
    assert all(type(count) is int and 0 <= count <= work.LARGEST_COUNT for count in counts)
    texts = [found.broker_error]
    for task in (found.oldest, found.stuck_task):
        if task is not None:
            assert NOON - timedelta(seconds=work.LONGEST_SECONDS + 1) <= task.started_at <= NOON
            texts += [task.name, task.id]
    if found.last_failure:
        texts += [found.last_failure.task, found.last_failure.id, found.last_failure.exception]
    assert all(len(text) <= work.LONGEST_ERROR and text.isprintable() for text in texts)
    work.add_up([found, found])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b"{}", id="no worker"),
        pytest.param(b'{"busy": true}', id="a flag for a number"),
        pytest.param(b'{"busy": -1}', id="a negative number"),
        pytest.param(b'{"busy": 1' + b"0" * 5000 + b"}", id="a number of 5001 digits"),
        pytest.param(b"[" * 100_000, id="100,000 brackets"),
        pytest.param(b'{"busy": 1, "x": "' + b"x" * work.REPLY_BYTES + b'"}', id="too long"),
        pytest.param(b"\xff\xfe", id="bytes"),
    ],
)
def test_what_is_no_reply_of_a_worker_is_none(body: bytes) -> None:
    assert read(body) is None


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        pytest.param({"busy": 2}, False, id="a busy slot is a figure"),
        pytest.param({"broker_away_seconds": 3.0, "consuming": False}, True, id="the broker is away"),
        pytest.param({"work": {**STATUS["work"], "stuck": 1, "stuck_task": TASK}}, True, id="a task is stuck"),
        pytest.param({"work": {**STATUS["work"], "dead_letters": 2}}, False, id="one more dead letter"),
        pytest.param({"work": {**STATUS["work"], "dead_letters": 0}}, True, id="no dead letters any more"),
        pytest.param({"work": {**STATUS["work"], "failed": 5}}, True, id="most tasks fail now"),
        pytest.param({"work": {**STATUS["work"], "out_of_memory": 1}}, True, id="memory"),
    ],
)
def test_news_is_what_a_condition_looks_at(changes: dict[str, Any], news: bool) -> None:
    assert work.is_news({"u": report()}, {"u": report(**changes)}) is news


def test_the_first_reply_is_news() -> None:
    assert work.is_news({}, {"u": report()})


def test_replies_are_added_up() -> None:
    old = {**TASK, "id": "id-9", "seconds": 5000}
    found = work.add_up([report(), report(work={**STATUS["work"], "oldest": old, "stuck": 1, "stuck_task": old})])
    assert (found.workers, found.slots, found.busy, found.failed, found.stuck) == (2, 4, 2, 4, 1)
    assert found.oldest is not None
    assert found.stuck_task is not None
    assert (found.oldest.id, found.stuck_task.id) == ("id-9", "id-9")
