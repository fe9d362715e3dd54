"""When a connection asks for messages; times are the test's."""

from __future__ import annotations

import pytest

from celeriac.transport.pace import (
    LONGEST_POLL_SECONDS,
    LONGEST_SPREAD_SECONDS,
    OVERDUE_SECONDS,
    SHORTEST_POLL_SECONDS,
    SHORTEST_SPREAD_SECONDS,
    SIGN_OF_LIFE_SECONDS,
    Pace,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(SIGN_OF_LIFE_SECONDS, False), (SIGN_OF_LIFE_SECONDS + 0.1, True)],
    ids=["not before a sign of life is due", "then at once"],
)
def test_a_listening_connection_asks_without_an_announcement(seconds: float, expected: bool) -> None:
    pace = Pace()
    pace.listens(100)
    assert pace.is_quiet_for_long(100 + seconds) is expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(OVERDUE_SECONDS, False), (OVERDUE_SECONDS + 0.1, True)],
    ids=["a slow answer is waited for", "one that never comes is not"],
)
def test_an_answer_is_overdue(seconds: float, expected: bool) -> None:
    pace = Pace()
    pace.asked(100)
    assert pace.is_overdue(100 + seconds) is expected


def test_who_comes_too_late_waits_longer_each_time_and_who_finds_something_runs_at_once_again() -> None:
    pace = Pace()
    waits = []
    for _ in range(10):
        waits.append(pace.announced(0, chance=1))
        pace.answered(found=False)
    assert waits[:4] == [0, SHORTEST_SPREAD_SECONDS, 2 * SHORTEST_SPREAD_SECONDS, 4 * SHORTEST_SPREAD_SECONDS]
    assert waits[-1] == LONGEST_SPREAD_SECONDS
    pace.announced(0, chance=1)
    pace.answered(found=True)
    assert pace.announced(0, chance=1) == 0


def test_finding_nothing_without_an_announcement_makes_nobody_wait() -> None:
    pace = Pace()
    for _ in range(3):
        pace.answered(found=False)
    assert pace.announced(0, chance=1) == 0


def test_a_connection_that_is_told_nothing_asks_in_growing_intervals_until_it_finds_something() -> None:
    pace = Pace()
    waits = [pace.polls(0, found=False) for _ in range(15)]
    assert waits[0] == SHORTEST_POLL_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_POLL_SECONDS
    assert pace.polls(0, found=True) == SHORTEST_POLL_SECONDS


def test_a_time_that_was_set_is_waited_for_and_forgotten_with_the_next_question() -> None:
    pace = Pace()
    assert pace.seconds_to_turn(100) == 1
    pace.polls(100, found=True)
    assert pace.must_wait(100 + SHORTEST_POLL_SECONDS / 2)
    assert pace.seconds_to_turn(100) == pytest.approx(SHORTEST_POLL_SECONDS)
    assert not pace.must_wait(100 + SHORTEST_POLL_SECONDS * 2)
    assert pace.seconds_to_turn(200) == 0
    pace.asked(100)
    assert not pace.must_wait(100)
