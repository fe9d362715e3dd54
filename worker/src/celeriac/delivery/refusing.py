"""What happens to a message that this worker cannot run?

Celery's consumer acknowledges a message that it cannot read and rejects one that is no call of a task: both are gone.
Here they are dead-lettered at once, with the reason. A message whose task this worker does not know goes back after a
delay: in a rollout a worker with the new code may be the next to get it. So does one for which Celery raises where it
is to begin the task. Both count a delivery.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from celeriac.delivery.holdings import AWAY, Holdings
from celeriac.delivery.values import messages, outcomes
from celeriac.delivery.values.outcomes import Outcome
from celeriac.printable import printable
from celeriac.store import keys

logger = logging.getLogger(__name__)

DELAY_SECONDS: Final = 5.0
"""A message that goes back after a delay waits this long, doubled with each delivery."""
LONGEST_DELAY_SECONDS: Final = 60.0


class Refusals:
    """Takes care of messages that this worker holds and cannot run. Each method says whether it did.

    A message that came by a connection without leases is left to Celery.
    """

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._cancelled: list[Any] = []

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
        """Give a message back after a delay whose task this worker does not know."""
        why = f"no task named {printable(name)} on this worker"
        return self._return_later(message, Outcome.UNKNOWN_TASK, why)

    def set_aside(self, message: Any, error: BaseException) -> bool:
        """Give a message back after a delay for which Celery has raised before its task began."""
        why = f"its task could not begin: {printable(repr(error))}"
        if message.delivery_tag in self.holdings:
            logger.error("Celery raised where it was to begin a task", exc_info=error)
        return self._return_later(message, Outcome.NOT_STARTED, why)

    def note_cancelled(self, request: Any) -> None:
        """Remember a request that Celery has cancelled; may be called in a signal handler."""
        self._cancelled.append(request)

    def take_cancelled(self) -> list[Any]:
        """The requests that were cancelled since the last call."""
        cancelled, self._cancelled = self._cancelled, []
        return cancelled

    def give_back_cancelled(self, requests: list[Any]) -> None:
        """Give the messages of cancelled requests back, uncounted: it was not the tasks that failed."""
        deliveries = [request.message.delivery_tag for request in requests]
        try:
            self.holdings.give_back(deliveries, Outcome.RETURNED, "its task was cancelled")
        except AWAY as error:
            logger.warning("%d cancelled message(s) come back when their leases end: %s", len(deliveries), error)

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
    """Leaves every message to Celery: for a broker other than Redis, whose messages it acknowledges and rejects."""

    def refuse(self, message: Any, why: str) -> bool:  # noqa: ARG002 - see `Refusals`
        """Leave it to Celery."""
        return False

    def return_unknown(self, message: Any, name: object) -> bool:  # noqa: ARG002
        """Leave it to Celery."""
        return False

    def set_aside(self, message: Any, error: BaseException) -> bool:  # noqa: ARG002
        """Leave it to Celery."""
        return False

    def note_cancelled(self, request: Any) -> None:
        """Leave it to the broker, which delivers again what was not acknowledged."""

    def take_cancelled(self) -> list[Any]:
        """Nothing."""
        return []

    def give_back_cancelled(self, requests: list[Any]) -> None:
        """Leave it to the broker."""


def _leave_window(message: Any) -> None:
    """Take a message out of the prefetch window of its channel, where it stays held."""
    message.channel.qos._quick_ack(message.delivery_tag)
