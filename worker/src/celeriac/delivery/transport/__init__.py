"""kombu's Redis transport with an atomic fetch.

kombu takes a message with BRPOP and records it as unacknowledged in a second step; a worker that is killed in between
loses it. Here one script moves messages from the queues' lists into the held set, up to the free prefetch window, and
settles the deliveries that have ended in the same round trip. Lists and messages keep kombu's format, so plain
producers and plain workers can use the same queues.

**Waiting.** When the script finds every list empty, it has read them, and this connection tracks what it reads (CLIENT
TRACKING, Redis 6): the server says once that a list has changed, and then the script runs again. An idle worker sends
only a keepalive every few seconds. All idle workers of a queue are notified of each message. They ask for it in the
order of a waiting line that the script keeps, so that they do not all ask at once. Where the server, its ACL or a proxy
refuses tracking, the lists are polled at growing intervals.
"""

from __future__ import annotations

from typing import Any

import kombu.transport.redis

from celeriac.delivery.transport import registered
from celeriac.delivery.transport.channel import Channel
from celeriac.delivery.transport.poller import Poller
from celeriac.delivery.transport.registered import OPTION, register, unregister

__all__ = ["OPTION", "SentinelTransport", "Transport", "register", "unregister"]

# The published stubs know little of this module's classes.
kombu_redis: Any = kombu.transport.redis


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # Any, see kombu_redis
    """kombu's Redis transport, with an atomic fetch for connections whose options name the holdings of this process.

    Any other connection (an application's own) gets kombu's transport unchanged.
    """

    Channel = Channel
    plain_channel = kombu_redis.Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        if registered.has_holdings(client):
            self.cycle = Poller()
        else:
            self.Channel = self.plain_channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Register this transport's sockets with an event loop."""
        if not isinstance(self.cycle, Poller):
            super().register_with_event_loop(connection, loop)
            return
        self.cycle.loop = loop
        others = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self.cycle.keep_turning(loop.on_tick, loop.on_tick - others)


class SentinelChannel(Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]  # Any, see kombu_redis
    """The same behind Sentinel."""


class SentinelTransport(Transport, kombu_redis.SentinelTransport):  # type: ignore[misc]  # Any, see kombu_redis
    """The same behind Sentinel."""

    Channel = SentinelChannel
    plain_channel = kombu_redis.SentinelChannel
    default_port = 26379
