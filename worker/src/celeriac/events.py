"""What do Celery's monitoring events cost when the broker is away?

Celery's worker publishes its heartbeat event with a retry that has no end, in the very loop that takes messages: a
broker that hangs (a partition, a frozen node) would stop that loop for good, and the consumer would never find out,
reconnect or give up. So an event that comes without a retry policy is tried once. One that fails is kept by Celery and
sent after the reconnect; events that tasks send themselves bring a policy and keep it.
"""

from __future__ import annotations

from typing import Any

from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):
    """Celery's dispatcher, without retries that have no end."""

    def send(self, type: str, *args: Any, retry: bool = False, retry_policy: Any = None, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event; see Celery's dispatcher."""
        is_bounded = retry and retry_policy is not None
        send: Any = super().send
        return send(type, *args, retry=is_bounded, retry_policy=retry_policy, **fields)
