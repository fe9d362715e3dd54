"""What do Celery's monitoring events cost when the broker is away?

Celery's worker publishes its heartbeat event with endless retries, in the same loop that takes messages. A broker that
hangs (a partition, a frozen node) would block that loop forever, and the consumer would never notice, reconnect or give
up. Therefore an event without a retry policy is tried once. Celery keeps an event that fails, and sends it after the
reconnect. Events that tasks send have a retry policy of their own, and keep it.

A single try already blocks the loop for the socket timeout, and a heartbeat is due every two seconds. While the broker
does not answer, the loop would do almost nothing else. Therefore, after a failure, new events are kept without a try
until the consumer has had time to notice the outage (`OFFLINE_SECONDS`).
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

from celery.events.dispatcher import EventDispatcher

OFFLINE_SECONDS: Final = 20.0
"""How long events are kept without a try after a failure. This is longer than the consumer needs to detect that Redis
does not answer. If only the connection for events was broken, it is tried again after this time."""


class Dispatcher(EventDispatcher):
    """Celery's dispatcher, without endless retries. After a failure it sends nothing for a while."""

    clock_seconds = staticmethod(time.monotonic)
    # Attributes of Celery's class that its published stubs omit.
    producer: Any
    _outbound_buffer: deque[Any]
    _failed_at: float | None = None
    _kept_fields = 2
    """Length of the tuple that Celery keeps for an event. In older versions it also contains the error."""

    def send(self, type: str, *args: Any, retry: bool = False, retry_policy: Any = None, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event; see Celery's dispatcher."""
        is_bounded = retry and retry_policy is not None
        send: Any = super().send
        return send(type, *args, retry=is_bounded, retry_policy=retry_policy, **fields)

    def _publish(self, event: Any, producer: Any, routing_key: str, *args: Any, **kwargs: Any) -> Any:
        publish: Any = super()._publish  # type: ignore[misc]  # Celery's; likewise
        if producer is not self.producer:  # the application's own producer, which has just sent a message
            return publish(event, producer, routing_key, *args, **kwargs)
        if self._failed_at is not None and self.clock_seconds() - self._failed_at < OFFLINE_SECONDS:
            self._outbound_buffer.append((event, routing_key, None)[: self._kept_fields])
            return None
        kept = len(self._outbound_buffer)
        result = publish(event, producer, routing_key, *args, **kwargs)
        # Celery does not raise; it keeps the event.
        has_failed = len(self._outbound_buffer) > kept
        self._failed_at = self.clock_seconds() if has_failed else None
        if has_failed:
            self._kept_fields = len(self._outbound_buffer[-1])
        return result
