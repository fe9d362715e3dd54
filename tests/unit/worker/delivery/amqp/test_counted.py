"""A message of AMQP is acknowledged only after its copy is stored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.delivery.amqp.counted import CountedDeliveries
from celeriac.delivery.values import amqp, outcomes


class Broker:
    """Stands for the publisher: keeps what was published, in order with the acknowledgements."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.steps: list[tuple[str, Any]] = []
        self.is_away = is_away

    def publish(self, queue: str, copy: Any, *, arguments: Any = None) -> None:  # noqa: ARG002 - as the publisher
        if self.is_away:
            raise TimeoutError
        self.steps.append((queue, copy))


class Message:
    def __init__(self, broker: Broker, *, redelivered: bool = False, **headers: Any) -> None:
        self.broker = broker
        self.headers = {"task": "shop.send", "id": "1", **headers}
        self.properties: dict[str, Any] = {"correlation_id": "1"}
        self.delivery_info = {"consumer_tag": "tag", "redelivered": redelivered}
        self.body, self.content_type, self.content_encoding, self.errors = (
            b"[[], {}, {}]",
            "application/json",
            "utf-8",
            [],
        )
        self.acknowledged = False

    def ack(self) -> None:
        self.acknowledged = True
        self.broker.steps.append(("ack", None))


def counted(broker: Broker, most: int = 3) -> CountedDeliveries:
    deliveries = CountedDeliveries(SimpleNamespace(), broker, max_deliveries=most, where="shop/pod-1")  # type: ignore[arg-type]
    deliveries._tell = ()  # no result backend
    deliveries.attach(SimpleNamespace(task_consumer=SimpleNamespace(_active_tags={"mail": "tag"})))
    return deliveries


def test_a_new_message_is_left_to_celery() -> None:
    broker = Broker()
    assert not counted(broker).receive(Message(broker))
    assert broker.steps == []


def test_a_message_that_comes_again_is_stored_with_its_count_before_it_is_acknowledged() -> None:
    broker = Broker()
    assert counted(broker).receive(Message(broker, redelivered=True))
    (queue, copy), last = broker.steps
    assert (queue, last) == ("mail", ("ack", None))
    assert outcomes.deliveries(amqp.record(copy.headers)) == 1


def test_a_message_with_an_eta_may_come_again_without_a_count() -> None:
    broker = Broker()
    message = Message(broker, redelivered=True, eta="2030-01-01T00:00:00")
    assert not counted(broker).receive(message)
    assert not counted(broker).put_back(message)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_message_is_dead_lettered_after_exactly_so_many_deliveries_as_the_pool_allows(most: int) -> None:
    broker = Broker()
    message = Message(broker)
    for _ in range(most - 1):
        assert counted(broker, most).requeue(message, "its process was lost")
        queue, copy = broker.steps[-2]
        assert queue == "mail"
        message = Message(broker, **copy.headers)
        assert not counted(broker, most).receive(message)
    assert counted(broker, most).requeue(message, "its process was lost")
    queue, copy = broker.steps[-2]
    assert queue == "celeriac.dead.mail"
    entry = amqp.read(copy.body, queue="mail")
    assert entry.why == f"delivered {most} times without coming to an end; the last time its process was lost"
    assert entry.deliveries == most


@pytest.mark.parametrize("most", [1, 2])
def test_a_limit_that_was_lowered_holds_for_messages_on_their_way(most: int) -> None:
    broker = Broker()
    counted(broker, 5).requeue(Message(broker), "x")
    counted(broker, 5).requeue(Message(broker, **broker.steps[0][1].headers), "x")
    assert counted(broker, most).receive(Message(broker, **broker.steps[2][1].headers))
    assert broker.steps[-2][0] == "celeriac.dead.mail"


@pytest.mark.parametrize("do", ["receive", "requeue", "put_back", "refuse", "return_unknown", "set_aside"])
def test_a_message_stays_where_it_is_if_its_copy_is_not_stored(do: str) -> None:
    broker = Broker(is_away=True)
    message = Message(broker, redelivered=True)
    deliveries = counted(broker)
    arguments = {"receive": (), "put_back": (), "set_aside": (ValueError("x"),)}.get(do, ("why",))
    assert not getattr(deliveries, do)(message, *arguments)
    assert not message.acknowledged


def test_an_unknown_task_waits_in_a_queue_that_returns_it() -> None:
    broker = Broker()
    assert counted(broker).return_unknown(Message(broker), "shop.new")
    assert broker.steps[0][0] == "celeriac.later.5.mail"


def test_the_queue_is_known_after_the_consumer_was_stopped() -> None:
    broker = Broker()
    deliveries = counted(broker)
    deliveries.receive(message := Message(broker))
    deliveries._consumer.task_consumer._active_tags.clear()
    assert deliveries.put_back(message)
    assert broker.steps[0][0] == "mail"
