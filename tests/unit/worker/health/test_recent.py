"""What a worker says of its last 15 minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.health.memory import MemoryKills
from celeriac.health.recent import MOST_FAILURES, STEP_SECONDS, WINDOW_SECONDS, End, Recent
from celeriac.health.rules import Observed, Running, is_stuck
from celeriac.health.server import MOST_TASKS, HealthServer

ENDS = st.lists(st.tuples(st.floats(0, 4000, allow_nan=False), st.sampled_from(list(End))), max_size=60)


@given(ENDS, st.floats(0, 3000))
def test_the_window_holds_what_ended_in_the_last_fifteen_minutes(ends: list[tuple[float, End]], later: float) -> None:
    recent, ends = Recent(), sorted(ends, key=lambda it: it[0])
    for at, end in ends:
        recent.count(end, now=at)
    now = (ends[-1][0] if ends else 0) + later
    seen = recent.at(now)
    for end in End:
        ages = [now - at for at, it in ends if it is end]
        least = sum(age <= WINDOW_SECONDS - STEP_SECONDS for age in ages)
        most = sum(age <= WINDOW_SECONDS for age in ages)
        assert least <= getattr(seen, end.value) <= most


def test_the_last_failures_have_names_and_older_ones_are_counted() -> None:
    recent = Recent()
    for number in range(150):
        recent.fail("shop.mail", f"id-{number}", "ValueError", now=100.0 + number)
    seen = recent.at(300)
    assert (seen.failed, len(seen.failures)) == (150, MOST_FAILURES)
    newest = seen.failures[0]
    assert (newest.task, newest.id, newest.exception, newest.seconds_ago) == ("shop.mail", "id-149", "ValueError", 51)
    assert recent.at(249 + WINDOW_SECONDS + 1).failures == ()


def test_a_million_tasks_need_no_more_memory_than_sixty_steps() -> None:
    recent = Recent()
    for second in range(0, 100_000, 5):
        recent.count(End.SUCCEEDED, now=float(second), times=50)
    assert len(recent._steps) <= WINDOW_SECONDS // STEP_SECONDS


@given(name=st.text(max_size=2000) | st.none() | st.integers(), task_id=st.text(max_size=2000))
def test_whatever_a_message_calls_its_task_the_status_is_short_and_json(name: object, task_id: str) -> None:
    recent = Recent()
    recent.fail(name, task_id, "E" * 5000, now=1.0)
    running = tuple(
        Running(name=str(name), id=task_id, seconds=5000.0 + it, hard_limit_seconds=None)
        for it in range(MOST_TASKS + 9)
    )
    health = HealthServer(
        0, lambda: Observed(uptime_seconds=1, running=running), lambda: recent.at(2), {}, lambda: (b"", "")
    )
    said = json.loads(json.dumps(health.status()))
    assert (said["busy"], len(said["running"]), said["work"]["stuck"]) == (MOST_TASKS + 9, MOST_TASKS, MOST_TASKS + 9)
    assert said["running"][0]["seconds"] == said["work"]["oldest"]["seconds"] == 5000 + MOST_TASKS + 8
    shown = [*said["work"]["failures"], *said["running"]]
    assert all(len(text) <= 200 for it in shown for text in it.values() if isinstance(text, str))


@pytest.mark.parametrize(
    ("seconds", "limit", "stuck"),
    [
        pytest.param(3599, None, False, id="under an hour without a limit"),
        pytest.param(3601, None, True, id="over an hour without a limit"),
        pytest.param(7000, 7200, False, id="long, within its limit"),
        pytest.param(70, 60, False, id="just past its limit: Celery is ending it"),
        pytest.param(71, 60, True, id="past its limit"),
    ],
)
def test_a_task_is_stuck_past_its_limit_or_after_an_hour_without_one(
    seconds: float, limit: float | None, stuck: bool
) -> None:
    assert is_stuck(Running(name="a", id="1", seconds=seconds, hard_limit_seconds=limit)) is stuck


@pytest.mark.parametrize("content", ["low 0\noom 3\noom_kill {}\n", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"])
def test_the_kernels_counter_tells_new_kills(content: str, tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    file.write_text(content.format(2))
    kills = MemoryKills((str(tmp_path / "missing"), str(file)))
    assert kills.new() == 0
    file.write_text(content.format(5))
    assert (kills.new(), kills.new()) == (3, 0)
    file.unlink()
    assert kills.new() == 0
