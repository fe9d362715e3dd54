"""Monitoring events and a broker that does not answer."""

from __future__ import annotations

from typing import Any

import pytest
from celery import VERSION, Celery

from celeriac.hooks.events import OFFLINE_SECONDS, Dispatcher


class Silent:
    """A producer whose broker does not answer; counts what it was asked to send."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = False

    def publish(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        if not self.answers:
            raise TimeoutError("Timeout reading from socket")


@pytest.fixture
def dispatcher() -> Dispatcher:
    it = Dispatcher(app=Celery(broker="memory://", set_as_current=False), enabled=False)
    it.producer, it.enabled = Silent(), True
    it.clock_seconds = lambda: 100.0
    return it


def test_after_one_event_that_could_not_be_sent_the_next_ones_wait_without_asking_the_broker(
    dispatcher: Dispatcher,
) -> None:
    for _ in range(3):
        dispatcher.send("worker-heartbeat")
    assert dispatcher.producer.asked == 1
    assert len(dispatcher._outbound_buffer) == 3


def test_a_broker_that_was_silent_for_a_moment_is_asked_again(dispatcher: Dispatcher) -> None:
    dispatcher.send("worker-heartbeat")
    dispatcher.producer.answers = True
    dispatcher.clock_seconds = lambda: 100.0 + OFFLINE_SECONDS
    dispatcher.send("worker-heartbeat")
    dispatcher.send("worker-heartbeat")
    assert dispatcher.producer.asked == 3
    assert len(dispatcher._outbound_buffer) == 1


def test_sending_what_was_kept_stops_at_the_first_event_that_fails(dispatcher: Dispatcher) -> None:
    dispatcher.send("worker-heartbeat")
    (kept,) = dispatcher._outbound_buffer
    dispatcher._failed_at = None  # the connection is there again, and silent again
    dispatcher.producer.asked = 0
    dispatcher._outbound_buffer.extend([kept] * 2)
    dispatcher.flush(groups=False)
    assert dispatcher.producer.asked == 1
    if VERSION >= (5, 7):  # older versions drop what could not be sent when it was tried again
        assert len(dispatcher._outbound_buffer) == 3


def test_a_producer_of_the_application_is_always_asked(dispatcher: Dispatcher) -> None:
    dispatcher.send("worker-heartbeat")
    own = Silent()
    dispatcher.publish("task-sent", {}, own)
    assert own.asked == 1
