"""How many messages may a channel hold, and how are they settled or given back?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import kombu.transport.redis
import kombu.transport.virtual

from celeriac.delivery.values.outcomes import Outcome

if TYPE_CHECKING:
    from celeriac.delivery.holdings import Holdings

# The published stubs know little of these modules' classes.
kombu_redis: Any = kombu.transport.redis
virtual: Any = kombu.transport.virtual

MOST_AT_ONCE: Final = 64
"""Messages in one reply; bounds its size and the time that the script blocks the server."""


class Holder(Protocol):
    """The part of a channel that its `QoS` uses."""

    holdings: Holdings
    connection: Any
    """kombu's transport; `None` once the channel is closed."""
    is_asked: bool
    """Whether a take was sent and its reply has not arrived."""

    def end_delivery(self, delivery: str) -> None:
        """Settle a delivery."""

    def is_time_for_old_keys(self) -> bool:
        """Return whether to check kombu's own keys now."""


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # Any, see kombu_redis
    """The messages that a channel holds; the script keeps the record in Redis, so this class writes nothing."""

    channel: Holder
    free_slots: Callable[[], int] | None = None
    """Number of tasks that can begin now; `None` if more messages than that may be fetched."""
    is_set = False
    """Whether the consumer has set how many messages the channel may hold."""

    @property
    def is_by_hand(self) -> bool:
        """Return whether application code takes messages from this channel, for instance a `SimpleQueue` in a task.

        Such code gets one message for each `drain_events`, as with kombu. Its acknowledgements are settled at once,
        because it may never ask again. Celery's consumer sets how many messages it may hold, or has an event loop.
        """
        return not self.is_set and self.channel.connection is not None and self.channel.connection.cycle.loop is None

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message against the prefetch window."""
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Settle a message with the next round trip of the fetch."""
        virtual.QoS.ack(self, delivery_tag)
        self.channel.end_delivery(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Settle a message, or give it back.

        A message that is given back goes to the end of its queue, and the delivery is counted. If the worker is
        leaving, the message goes to the front, and the delivery is not counted.
        """
        virtual.QoS.ack(self, delivery_tag)
        holdings = self.channel.holdings
        if requeue and holdings.is_leaving():
            holdings.give_back([delivery_tag], Outcome.RETURNED, "its worker left")
        elif requeue:
            holdings.give_back([delivery_tag], Outcome.REQUEUED, "its task or its process gave it back")
        else:
            self.channel.end_delivery(delivery_tag)

    def window(self) -> int:
        """Return how many more messages may be held now.

        0 if the worker is leaving: without an event loop (gevent, eventlet), Celery notices up to two seconds late that
        it must stop, and would take messages that a short drain has just given back.
        """
        if self.channel.holdings.is_leaving():
            return 0
        window = MOST_AT_ONCE if self.free_slots is None else self.free_slots()
        if not self.prefetch_count:
            return 1 if self.is_by_hand else window
        held = len(self._delivered) - len(self._dirty) + self.channel.holdings.kept_count
        return max(0, min(window, int(self.prefetch_count) - held))

    def can_consume(self) -> bool:
        """As kombu's; always true while a reply is due, because its messages are already taken."""
        return self.channel.is_asked or (super().can_consume() and not self.channel.holdings.is_leaving())

    def restore_unacked(self, client: Any = None) -> list[Any]:  # noqa: ARG002 - kombu's signature
        """Give back the messages of this channel that do not run; called when it closes."""
        self._flush()
        holdings = self.channel.holdings
        # Celery acknowledges in its event loop, which does not run now.
        unfinished = [tag for tag in self._delivered if not holdings.has_ended(tag)]
        runs_on = {tag for tag in unfinished if holdings.keeps(tag)}
        holdings.note_kept(runs_on)
        tags = [tag for tag in unfinished if tag not in runs_on]
        self._delivered.clear()
        holdings.give_back(tags, Outcome.RETURNED, "its worker left")
        return []

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:  # noqa: ARG002 - kombu's
        """Put back messages that plain workers left in kombu's own keys, after kombu's visibility timeout."""
        if self.channel.is_time_for_old_keys():
            super().restore_visible(start, num, interval=1)
