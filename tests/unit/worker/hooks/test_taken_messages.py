"""What the consumer's hooks note of the messages that come."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from celeriac.hooks.consumer import ConsumerHooks


class Base:
    """Celery's consumer class, as far as it hands out what handles a message."""

    def create_task_handler(self) -> Callable[[Any], str]:
        return lambda message: f"handled {message}"


def test_every_message_counts_as_taken_before_it_is_handled_whatever_becomes_of_it() -> None:
    taken: list[bool] = []
    kind: Any = type("Consumer", (ConsumerHooks, Base), {"parts": SimpleNamespace(vitals=SimpleNamespace())})
    consumer = kind.__new__(kind)
    consumer.parts.vitals.take = lambda: taken.append(True)
    handle = consumer.create_task_handler()
    assert handle("one with an ETA") == "handled one with an ETA"
    assert taken == [True]
