"""What happens to a message that this worker cannot run?

Celery's consumer acknowledges a message that it cannot read, and rejects one that is not a call of a task. Both would
be lost. Here they are dead-lettered at once, with the reason. A message whose task this worker does not know is given
back after a delay: during a rollout, a worker with the new code may get it next. A message for which Celery raises
before the task begins is also given back after a delay. Both count as a delivery.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from celeriac.delivery.callers import FLUSH_SECONDS, Callers
from celeriac.delivery.holdings import AWAY, Holdings
from celeriac.delivery.values import messages, outcomes
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.delivery.values.outcomes import Outcome
from celeriac.exceptions import DeadLetterError
from celeriac.printable import printable
from celeriac.store import keys

logger = logging.getLogger(__name__)

DELAY_SECONDS: Final = 5.0
"""Delay before a message is given back; doubled with each delivery."""
LONGEST_DELAY_SECONDS: Final = 60.0


class Refusals:
    """Handles messages that this worker holds and cannot run. Each method returns whether it handled the message.

    A message from a connection without leases is left to Celery.
    """

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._cancelled: list[Any] = []

    def attach(self, consumer: Any) -> None:
        """Nothing to learn: deliveries know their queues."""

    def receive(self, message: Any) -> bool:  # noqa: ARG002 - see `CountedDeliveries`
        """Leave it to the transport, which has counted its deliveries."""
        return False

    def requeue(self, message: Any, why: str) -> bool:  # noqa: ARG002
        """Leave it to the transport, which counts a delivery."""
        return False

    def put_back(self, message: Any) -> bool:  # noqa: ARG002
        """Leave it to the transport."""
        return False

    def refuse(self, message: Any, why: str) -> bool:
        """Dead-letter a message that no worker can run."""
        delivery, holdings = message.delivery_tag, self.holdings
        queue = holdings.queue_of(delivery)
        if queue is None:
            return False
        _leave_window(message)
        value = holdings.client.hget(keys.held(queue, prefix=holdings.prefix), delivery)
        if value is None:
            holdings.note_lost([delivery])
        else:
            holdings.dead_letter(delivery, queue, messages.split(value)[1], why)
        return True

    def return_unknown(self, message: Any, name: object) -> bool:
        """Give back, after a delay, a message whose task this worker does not know."""
        why = f"no task named {printable(name)} on this worker"
        return self._return_later(message, Outcome.UNKNOWN_TASK, why)

    def set_aside(self, message: Any, error: BaseException) -> bool:
        """Give back, after a delay, a message for which Celery raised before its task began."""
        why = f"its task could not begin: {printable(repr(error))}"
        if message.delivery_tag in self.holdings:
            logger.error("Celery raised an error when it started a task", exc_info=error)
        return self._return_later(message, Outcome.NOT_STARTED, why)

    def note_cancelled(self, request: Any) -> None:
        """Record a request that Celery has cancelled; may be called in a signal handler."""
        self._cancelled.append(request)

    def take_cancelled(self) -> list[Any]:
        """Return the requests that were cancelled since the last call."""
        cancelled, self._cancelled = self._cancelled, []
        return cancelled

    def give_back_cancelled(self, requests: list[Any]) -> None:
        """Give back the messages of cancelled requests without counting a delivery: the tasks did not fail."""
        deliveries = [request.message.delivery_tag for request in requests]
        try:
            self.holdings.give_back(deliveries, Outcome.RETURNED, "its task was cancelled")
        except AWAY as error:
            logger.warning("%d cancelled message(s) are redelivered when their leases end: %s", len(deliveries), error)

    def _return_later(self, message: Any, outcome: Outcome, why: str) -> bool:
        delivery = message.delivery_tag
        if delivery not in self.holdings:
            return False
        past = outcomes.deliveries({"properties": message.properties})
        delay = min(LONGEST_DELAY_SECONDS, DELAY_SECONDS * 2 ** min(past, 10))
        _leave_window(message)
        logger.warning("%s: the message goes back in %g s", why, delay)
        self.holdings.give_back_later(delivery, delay, outcome, why)
        return True


class NoRefusals:
    """Leaves every message to Celery, which acknowledges and rejects it; for brokers other than Redis and RabbitMQ.

    Args:
        callers: is told of each message that is refused, because its task will never run.
    """

    def __init__(self, callers: Callers) -> None:
        self.callers = callers

    def attach(self, consumer: Any) -> None:
        """Nothing to learn."""

    def receive(self, message: Any) -> bool:  # noqa: ARG002 - see `Refusals` and `CountedDeliveries`
        """Leave it to Celery."""
        return False

    def requeue(self, message: Any, why: str) -> bool:  # noqa: ARG002
        """Leave it to Celery."""
        return False

    def put_back(self, message: Any) -> bool:  # noqa: ARG002
        """Leave it to Celery."""
        return False

    def refuse(self, message: Any, why: str) -> bool:
        """Leave it to Celery, and tell the caller."""
        try:
            queue = str((message.delivery_info or {}).get("routing_key") or "")
            entry = DeadEntry.of(messages.stored(message), queue=queue, why=why, where="", now=time.time())
        except Exception:  # headers of any type: Celery must get the message all the same
            logger.exception("could not tell the caller of a message that was refused")
            return False
        self.callers.tell(entry, DeadLetterError(entry.sentence_of_broker()))
        return False

    def leave(self) -> None:
        """Tell the remaining callers, within seconds."""
        self.callers.flush(FLUSH_SECONDS)

    def return_unknown(self, message: Any, name: object) -> bool:  # noqa: ARG002
        """Leave it to Celery."""
        return False

    def set_aside(self, message: Any, error: BaseException) -> bool:  # noqa: ARG002
        """Leave it to Celery."""
        return False

    def note_cancelled(self, request: Any) -> None:
        """Leave it to the broker, which redelivers unacknowledged messages."""

    def take_cancelled(self) -> list[Any]:
        """Return an empty list."""
        return []

    def give_back_cancelled(self, requests: list[Any]) -> None:
        """Leave it to the broker."""

    @property
    def refusals(self) -> NoRefusals:
        """Return this object, which takes the place of `Deliveries` too."""
        return self

    def on_dead_letter(self, *others: Callable[..., object]) -> None:
        """There are no dead letters."""


def _leave_window(message: Any) -> None:
    """Remove a message from its channel's prefetch window; it stays held."""
    message.channel.qos._quick_ack(message.delivery_tag)
