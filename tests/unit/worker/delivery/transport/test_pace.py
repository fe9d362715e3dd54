"""When a connection asks for messages; times are the test's."""

from __future__ import annotations

import pytest

from celeriac.delivery.transport.pace import (
    LONGEST_LINE_SECONDS,
    LONGEST_POLL_SECONDS,
    OVERDUE_SECONDS,
    SHORTEST_POLL_SECONDS,
    SIGN_OF_LIFE_SECONDS,
    STEP_SECONDS,
    Pace,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(SIGN_OF_LIFE_SECONDS, False), (SIGN_OF_LIFE_SECONDS + 0.1, True)],
    ids=["not before a sign of life is due", "then at once"],
)
def test_a_listening_connection_asks_without_an_announcement(seconds: float, expected: bool) -> None:
    pace = Pace()
    pace.listens(100, 0)
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


@pytest.mark.parametrize(
    ("place", "expected"),
    [(0, 0), (4, 4 * STEP_SECONDS), (100_000, LONGEST_LINE_SECONDS)],
    ids=["the first in the line asks at once", "each other one a step later", "nobody waits for long"],
)
def test_an_announcement_is_followed_in_the_order_of_the_line(place: int, expected: float) -> None:
    pace = Pace()
    pace.listens(100, place)
    assert pace.announced(101) == expected
    assert pace.must_wait(101) is (expected > 0)
    assert not pace.must_wait(101.1)


def test_a_question_for_nothing_is_asked_as_cheaply_as_can_be() -> None:
    pace = Pace()
    assert not pace.expects_nothing, "at first"
    pace.listens(100, 0)
    assert pace.expects_nothing, "nothing was announced"
    pace.announced(101)
    assert not pace.expects_nothing, "the first in the line"
    pace.asked(101)
    pace.listens(101, 3)
    pace.announced(102)
    assert pace.expects_nothing, "others stand in front"


def test_it_is_known_when_everything_was_last_empty() -> None:
    pace = Pace()
    assert pace.empty_at is None
    pace.listens(100, 0)
    pace.announced(101)
    assert pace.empty_at == 100


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
