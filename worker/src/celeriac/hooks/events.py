"""What do Celery's monitoring events cost when the broker is away?

Celery's worker publishes its heartbeat event with a retry that has no end, in the very loop that takes messages: a
broker that hangs (a partition, a frozen node) would stop that loop for good, and the consumer would never find out,
reconnect or give up. So an event that comes without a retry policy is tried once. One that fails is kept by Celery and
sent after the reconnect; events that tasks send themselves bring a policy and keep it.

One try alone holds the loop up for the socket's time-out, and a heartbeat is due every two seconds: of a silent broker
the loop would see little else. So after a failure the next events are kept without a try, for as long as the consumer
needs to find the silence out by itself.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

from celery.events.dispatcher import EventDispatcher

OFFLINE_SECONDS: Final = 20.0
"""More than the consumer takes to call a silent Redis away (its sign of life and its patience for an answer); a
connection that broke alone is tried again then."""


class Dispatcher(EventDispatcher):
    """Celery's dispatcher, without retries that have no end, and quiet for a while after a failure."""

    clock_seconds = staticmethod(time.monotonic)
    # Celery's; its published stubs leave them out.
    producer: Any
    _outbound_buffer: deque[Any]
    _failed_at: float | None = None
    _kept_fields = 2
    """How long what Celery keeps of an event is: in older versions the error stands in it too."""

    def send(self, type: str, *args: Any, retry: bool = False, retry_policy: Any = None, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event; see Celery's dispatcher."""
        is_bounded = retry and retry_policy is not None
        send: Any = super().send
        return send(type, *args, retry=is_bounded, retry_policy=retry_policy, **fields)

    def _publish(self, event: Any, producer: Any, routing_key: str, *args: Any, **kwargs: Any) -> Any:
        publish: Any = super()._publish  # type: ignore[misc]  # Celery's; likewise
        if producer is not self.producer:  # an application's own, whose message has just gone out
            return publish(event, producer, routing_key, *args, **kwargs)
        if self._failed_at is not None and self.clock_seconds() - self._failed_at < OFFLINE_SECONDS:
            self._outbound_buffer.append((event, routing_key, None)[: self._kept_fields])
            return None
        kept = len(self._outbound_buffer)
        result = publish(event, producer, routing_key, *args, **kwargs)
        # Celery raises nothing, it keeps the event.
        has_failed = len(self._outbound_buffer) > kept
        self._failed_at = self.clock_seconds() if has_failed else None
        if has_failed:
            self._kept_fields = len(self._outbound_buffer[-1])
        return result
