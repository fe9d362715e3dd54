from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.backoff import Retry


@pytest.mark.parametrize(
    ("retry", "chance", "seconds"),
    [
        pytest.param(0, 0.0, 1, id="the first one waits for the initial time"),
        pytest.param(1, 0.0, 2, id="then twice that"),
        pytest.param(4, 0.0, 16, id="and so on"),
        pytest.param(5, 0.0, 30, id="up to the maximum"),
        pytest.param(5, 0.5, 22.5, id="shortened by chance"),
        pytest.param(10**6, 0.0, 30, id="a very patient worker overflows nothing"),
    ],
)
def test_the_delay_before(retry: int, chance: float, seconds: float) -> None:
    assert Retry().delay_seconds(retry, chance) == pytest.approx(seconds)


@given(
    initial=st.floats(0, 100),
    maximum=st.floats(0, 100),
    retry=st.integers(0, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_between_half_the_shortest_and_the_longest(
    initial: float, maximum: float, retry: int, chance: float
) -> None:
    delay = Retry(initial_seconds=initial, max_seconds=maximum).delay_seconds(retry, chance)
    assert min(initial, maximum) / 2 <= delay <= maximum


@pytest.mark.parametrize(
    ("limit", "retries", "exhausted"),
    [(3, 2, False), (3, 3, True), (0, 0, True), (None, 10**9, False)],
)
def test_the_retries_are_used_up(limit: int | None, retries: int, *, exhausted: bool) -> None:
    assert Retry(max_retries=limit).is_exhausted(retries) is exhausted
