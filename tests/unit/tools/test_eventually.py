"""Both ways in which the tests wait return the first right value, and name the last one when there was none."""

from __future__ import annotations

import pytest
from tests.waiting import NotInTimeError, eventually, eventually_async


def test_the_first_right_value_is_returned() -> None:
    values = iter([0, 0, 3, 4])
    assert eventually(lambda: next(values), every=0) == 3


async def test_the_first_right_value_is_returned_in_an_event_loop() -> None:
    values = iter([1, 2, 3])

    async def read() -> int:
        return next(values)

    assert await eventually_async(read, lambda value: value > 1, every=0) == 2


def test_a_timeout_names_the_condition_and_the_last_value() -> None:
    with pytest.raises(NotInTimeError, match=r"not within 0 s: three pods; last seen: \['a'\]"):
        eventually(lambda: ["a"], lambda seen: len(seen) == 3, timeout=0, what="three pods", every=0)


async def test_a_timeout_in_an_event_loop_says_the_same() -> None:
    async def read() -> list[str]:
        return ["a"]

    with pytest.raises(NotInTimeError, match=r"not within 0 s: three pods; last seen: \['a'\]"):
        await eventually_async(read, lambda seen: len(seen) == 3, timeout=0, what="three pods", every=0)
