"""Does the broker have messages that this worker could take, but does not take?

After some reconnects a worker is connected but takes no messages (celery #8030). Inside the process it looks like an
idle worker, so only the broker can show the difference. This module asks the broker, in a thread with its own
connection, and only while the worker has free slots and room in its window. The probe never asks the broker; it reads
the recorded result.

This is only for brokers that are polled (Redis, SQS, ...). Other brokers push messages, and heartbeats detect a broken
connection.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final

from celeriac.health.vitals import Vitals, snapshot
from celeriac.loop import Loop

logger = logging.getLogger(__name__)

LONGEST_INTERVAL_SECONDS: Final = 10.0
SHORTEST_INTERVAL_SECONDS: Final = 1.0


class BacklogWatch:
    """Records since when messages wait although the worker could take them.

    Args:
        app: the Celery application, configured.
        vitals: stores the result, and knows whether the worker is idle.
    """

    def __init__(self, app: Any, vitals: Vitals) -> None:
        self.app = app
        self.vitals = vitals
        self._connection: Any = None
        # Ask several times before the worker counts as dead.
        seconds = min(LONGEST_INTERVAL_SECONDS, max(SHORTEST_INTERVAL_SECONDS, vitals.stalled_seconds / 4))
        self._loop = Loop(self._look, name="backlog", seconds=seconds)

    def start(self) -> None:
        """Ask the broker repeatedly, in a thread, until the worker drains."""
        self._loop.start()

    def stop(self) -> None:
        """Stop asking the broker."""
        self._loop.stop()

    def _look(self) -> None:
        if self.vitals.draining is not None:
            self.stop()
            return
        with contextlib.suppress(Exception):  # an error proves nothing; the consumer reports what is wrong
            self.run_once()

    def run_once(self) -> int:
        """Ask once, if the worker could take messages. Returns the number of messages that wait."""
        consumer = getattr(self.vitals.worker, "consumer", None)
        if not self._could_take(consumer):
            self.vitals.ignoring_since = None
            return 0
        taken = self.vitals.taken
        try:
            waiting = self._count(consumer)
        except Exception:
            self._forget_connection()
            self.vitals.ignoring_since = None
            raise
        if not waiting or self.vitals.taken != taken:
            self.vitals.ignoring_since = None
        elif self.vitals.ignoring_since is None:
            self.vitals.ignoring_since = self.vitals.clock()
        return waiting

    def _could_take(self, consumer: Any) -> bool:
        seen = self.vitals.observe()
        if consumer is None or not seen.consuming or seen.draining_seconds is not None or seen.slots is None:
            return False
        if len(seen.running) >= seen.slots or seen.prefetched:
            return False
        channel = getattr(consumer.task_consumer, "channel", None)
        return has_room(channel) and not has_looked(channel, self.vitals.clock())

    def _count(self, consumer: Any) -> int:
        if self._connection is None:
            self._connection = self.app.connection_for_read()
        channel = self._connection.default_channel
        names = [queue.name for queue in snapshot(consumer.task_consumer.queues)]
        return sum(_ready(channel, name, self._connection.channel_errors) for name in names)

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


def has_looked(channel: Any, now: float) -> bool:
    """Whether the transport has recently found all its queues empty. Only Celeriac's transport records this."""
    empty_at = getattr(getattr(channel, "pace", None), "empty_at", None)
    return empty_at is not None and now - empty_at < LONGEST_INTERVAL_SECONDS


def has_room(channel: Any) -> bool:
    """Whether the channel's window has room. False if the channel does not show its window."""
    qos: Any = getattr(channel, "qos", None)
    delivered, dirty = getattr(qos, "_delivered", None), getattr(qos, "_dirty", None)
    if delivered is None or dirty is None:
        return False
    limit: int = qos.prefetch_count
    return not limit or len(delivered) - len(dirty) < limit


def _ready(channel: Any, queue: str, missing: tuple[type[BaseException], ...]) -> int:
    try:
        count: int = channel.queue_declare(queue=queue, passive=True).message_count
    except missing:  # in Redis an empty queue does not exist
        return 0
    return count
