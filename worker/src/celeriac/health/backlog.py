"""Does the broker have messages that this worker could take, and does not?

After some reconnects a worker is connected and takes nothing (celery #8030); from inside the process it looks like an
idle one. The difference is in the broker, so somebody has to ask it: this module, in a thread with a connection of its
own, and only while the worker has free slots and room in its window. The probe itself never does; it reads what was
written down here.

Only for brokers that are polled (Redis, SQS, ...): others push, and a broken connection is noticed by its heartbeat.
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
    """Writes down since when messages wait although they could be taken.

    Args:
        app: the Celery application, configured.
        vitals: where it is written down, and where it is known whether the worker is idle.
    """

    def __init__(self, app: Any, vitals: Vitals) -> None:
        self.app = app
        self.vitals = vitals
        self._connection: Any = None
        # Several times within the time after which the worker counts as dead.
        seconds = min(LONGEST_INTERVAL_SECONDS, max(SHORTEST_INTERVAL_SECONDS, vitals.stalled_seconds / 4))
        self._loop = Loop(self._look, name="backlog", seconds=seconds)

    def start(self) -> None:
        """Look again and again, in a thread, until the worker drains."""
        self._loop.start()

    def stop(self) -> None:
        """Look no more."""
        self._loop.stop()

    def _look(self) -> None:
        if self.vitals.draining is not None:
            self.stop()
            return
        with contextlib.suppress(Exception):  # no answer is no evidence; the consumer says what is wrong
            self.run_once()

    def run_once(self) -> int:
        """Ask once, if there is reason to; how many messages wait that could be taken."""
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
    """Has the transport itself seen all its queues empty a moment ago? Celeriac's own says when it has."""
    empty_at = getattr(getattr(channel, "pace", None), "empty_at", None)
    return empty_at is not None and now - empty_at < LONGEST_INTERVAL_SECONDS


def has_room(channel: Any) -> bool:
    """Is the channel's window open? False where there is none to look at."""
    qos: Any = getattr(channel, "qos", None)
    delivered, dirty = getattr(qos, "_delivered", None), getattr(qos, "_dirty", None)
    if delivered is None or dirty is None:
        return False
    limit: int = qos.prefetch_count
    return not limit or len(delivered) - len(dirty) < limit


def _ready(channel: Any, queue: str, missing: tuple[type[BaseException], ...]) -> int:
    try:
        count: int = channel.queue_declare(queue=queue, passive=True).message_count
    except missing:  # in Redis an empty queue is not there
        return 0
    return count
