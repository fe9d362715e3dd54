"""How are the deliveries of a RabbitMQ broker limited, and where do dead letters go?

RabbitMQ redelivers what a lost worker had not acknowledged, for ever: a task that kills its process would take one
worker after the other. `CountedDeliveries` counts each of these deliveries in a header of the message, which only a
new message can have. So it publishes a copy with the new count, waits until the broker has stored it, and acknowledges
the original:

    its process was lost, or it was rejected with requeue   a copy with one delivery more, at the end of the queue
    received again after its worker or connection was lost  the same, before its task begins
    its task is not known here                              the same, after a delay in a queue of its own
    it has been delivered `maxDeliveries` times             an entry in the dead-letter queue `celeriac.dead.{queue}`
    it is not a call of a task                              the same, at once

**Limits.** If the worker is killed between the confirmation and the acknowledgement, the message exists twice, and its
task may run twice. RabbitMQ does not say whether a message that comes again had begun: one that only waited in a lost
worker counts too, but one with an ETA does not, as it may wait through many restarts.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from celeriac import counts
from celeriac.delivery.amqp.publisher import Copy, Publisher
from celeriac.delivery.callers import Callers
from celeriac.delivery.values import amqp, outcomes
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.delivery.values.outcomes import Outcome
from celeriac.exceptions import DeadLetterError
from celeriac.printable import printable

logger = logging.getLogger(__name__)

LATER_EXPIRES_SECONDS: Final = 3600
"""An unused queue for delayed messages is deleted after this time, which is far longer than any delay."""
FLUSH_SECONDS: Final = 5.0
"""How long a leaving worker waits until the callers of dead-lettered tasks are told."""


class CountedDeliveries:
    """Handles the messages of this worker's consumer that are delivered again or cannot run.

    Each method returns whether it handled the message; if the broker does not confirm the copy, it leaves the message
    to Celery and RabbitMQ.
    """

    def __init__(self, app: Any, publisher: Publisher, *, max_deliveries: int, where: str) -> None:
        """Prepare to count.

        Args:
            app: the application.
            publisher: publishes copies.
            max_deliveries: deliveries after which a message is dead-lettered.
            where: this worker, for the history of messages.
        """
        self.max_deliveries = max_deliveries
        self.where = where
        self._callers = Callers(app)
        self._tell: tuple[Callable[[DeadEntry, DeadLetterError], object], ...] = (self._callers.tell,)
        self._publisher = publisher
        self._consumer: Any = None
        self._queues: dict[str, str] = {}
        """Queues by consumer tag. kombu forgets them when it stops consuming, before messages are given back."""

    @property
    def refusals(self) -> CountedDeliveries:
        """Return this object, which takes the place of `Deliveries` too."""
        return self

    def on_dead_letter(self, *others: Callable[[DeadEntry, DeadLetterError], object]) -> None:
        """Tell the callers of a dead-lettered task, and also call these functions."""
        self._tell = (self._callers.tell, *others)

    def attach(self, consumer: Any) -> None:
        """Learn which of Celery's consumers delivers, so that the queue of a message is known. A connection is new."""
        self._consumer = consumer
        self._queues = {}

    def receive(self, message: Any) -> bool:
        """Count a message that is delivered again, and dead-letter one that has reached the limit."""
        self._note_queue(message)
        is_again = bool(message.delivery_info.get("redelivered")) and not message.headers.get("eta")
        if not is_again and amqp.RECORD not in message.headers:
            return False
        if is_again:
            return self._give_back(message, Outcome.EXPIRED, "its worker was lost, or the connection of it")
        why = outcomes.why_given_up(amqp.record(message.headers), self.max_deliveries)
        return why is not None and self.refuse(message, why)

    def requeue(self, message: Any, why: str) -> bool:
        """Give back a message whose run has ended without an end of its task; counts a delivery."""
        return self._give_back(message, Outcome.REQUEUED, why)

    def put_back(self, message: Any) -> bool:
        """Give back a message whose task has not begun, without counting a delivery.

        A message with an ETA is left to the broker: it does not count when it comes again.
        """
        return not message.headers.get("eta") and self._give_back(message, Outcome.RETURNED, "its worker is leaving")

    def refuse(self, message: Any, why: str) -> bool:
        """Dead-letter a message that no worker can run."""
        queue = self._queue_of(message)
        if queue is None:
            return False
        payload = amqp.dead_payload(
            body=_body(message),
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=_plain_headers(message),
            properties=message.properties,
        )
        entry = DeadEntry.of(payload, queue=queue, why=why, where=self.where, now=time.time())
        entry_id = uuid.uuid4().hex
        if not self._replace(message, amqp.dead_queue(queue), Copy(*amqp.written(entry, entry_id)), arguments={}):
            return False
        counts.DEAD_LETTERS.add(queue)
        logger.error("dead-lettered the message of task %s[%s]: %s", entry.task or "?", entry.id or "?", entry.why)
        error = DeadLetterError(entry.sentence(entry_id))
        try:
            for tell in self._tell:
                tell(entry, error)
        except Exception:  # raised by a reporter
            logger.exception("could not report a dead letter")
        return True

    def return_unknown(self, message: Any, name: object) -> bool:
        """Give back, after a delay, a message whose task this worker does not know."""
        return self._return_later(message, Outcome.UNKNOWN_TASK, f"no task named {printable(name)} on this worker")

    def set_aside(self, message: Any, error: BaseException) -> bool:
        """Give back, after a delay, a message for which Celery raised before its task began."""
        logger.error("Celery raised where it was to begin a task", exc_info=error)
        why = f"its task could not begin: {printable(repr(error))}"
        return self._return_later(message, Outcome.NOT_STARTED, why)

    def note_cancelled(self, request: Any) -> None:
        """Leave it to the broker, which redelivers unacknowledged messages."""

    def take_cancelled(self) -> list[Any]:
        """Return an empty list."""
        return []

    def give_back_cancelled(self, requests: list[Any]) -> None:
        """Leave it to the broker."""

    def leave(self) -> None:
        """Send the remaining reports, within seconds, and close the connection."""
        self._callers.flush(FLUSH_SECONDS)
        self._publisher.close()

    def _return_later(self, message: Any, outcome: Outcome, why: str) -> bool:
        seconds = amqp.delay_seconds(outcomes.deliveries(amqp.record(message.headers)))
        return self._give_back(message, outcome, why, delay_seconds=seconds)

    def _give_back(self, message: Any, outcome: Outcome, why: str, *, delay_seconds: int | None = None) -> bool:
        queue = self._queue_of(message)
        if queue is None:
            return False
        payload = outcomes.given_back(amqp.record(message.headers), outcome, now=time.time(), where=self.where, why=why)
        given_up = outcomes.why_given_up(payload, self.max_deliveries) if outcome.is_counted else None
        is_plain = not message.errors
        headers = amqp.with_record(message.headers, payload, is_plain=is_plain)
        if given_up is not None:
            message.headers = headers
            return self.refuse(message, given_up)
        properties = {
            **amqp.kept_properties(message.properties),
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
        }
        copy = Copy(_body(message), headers, {name: it for name, it in properties.items() if it is not None})
        if delay_seconds is None:
            return self._replace(message, queue, copy)
        logger.warning("%s: the message goes back in %d s", why, delay_seconds)
        arguments = {
            "x-message-ttl": delay_seconds * 1000,
            "x-expires": LATER_EXPIRES_SECONDS * 1000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": queue,
        }
        return self._replace(message, amqp.later_queue(queue, delay_seconds), copy, arguments=arguments)

    def _replace(self, message: Any, queue: str, copy: Copy, *, arguments: dict[str, Any] | None = None) -> bool:
        """Publish a copy of a message, then acknowledge the message."""
        try:
            self._publisher.publish(queue, copy, arguments=arguments)
        except Exception as error:  # of the connection, of the channel, or a time-out
            logger.warning("the broker did not store a message in %s, which stays in its queue: %s", queue, error)
            return False
        message.ack()
        return True

    def _note_queue(self, message: Any) -> str | None:
        tag = message.delivery_info.get("consumer_tag")
        if tag not in self._queues and self._consumer is not None:
            self._queues = {its: queue for queue, its in self._consumer.task_consumer._active_tags.items()}
        return self._queues.get(tag)

    def _queue_of(self, message: Any) -> str | None:
        return None if message.acknowledged else self._note_queue(message)


def _body(message: Any) -> bytes:
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body or b"")


def _plain_headers(message: Any) -> dict[str, Any]:
    """The headers that fit the body, which is decompressed unless decompressing it failed."""
    return {name: it for name, it in message.headers.items() if message.errors or name != "compression"}
