"""What this library changes in Celery's consumer, as far as it can be seen without a broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.hooks.consumer import ConsumerHooks


class Stock:
    """As much of Celery's consumer as concerns its window."""

    def _update_prefetch_count(self, index: int = 0) -> str:
        return f"Celery's, by {index}"


class Consumer(ConsumerHooks, Stock):  # type: ignore[misc]
    def __init__(self, *, slots: int, window: Any) -> None:
        self.pool = SimpleNamespace(num_processes=slots)
        self.initial_prefetch_count = 5
        self.parts: Any = SimpleNamespace(prefetch_window=lambda _consumer, slots: window and window(slots))
        self.asked: list[int] = []
        self.qos = SimpleNamespace(
            increment_eventually=self.asked.append, decrement_eventually=lambda count: self.asked.append(-count)
        )


@pytest.mark.parametrize(
    ("slots", "asked"),
    [
        pytest.param(6, [2], id="two more slots, two more messages"),
        pytest.param(2, [-2], id="two slots fewer"),
        pytest.param(4, [], id="as before"),
    ],
)
def test_the_window_follows_a_pool_that_changes(slots: int, asked: list[int]) -> None:
    consumer = Consumer(slots=slots, window=lambda slots: slots + 1)
    consumer._update_prefetch_count(1)
    assert consumer.asked == asked
    assert consumer.initial_prefetch_count == slots + 1


def test_with_an_autoscaler_the_window_is_celerys() -> None:
    consumer = Consumer(slots=6, window=None)
    assert consumer._update_prefetch_count(2) == "Celery's, by 2"
    assert consumer.initial_prefetch_count == 5
