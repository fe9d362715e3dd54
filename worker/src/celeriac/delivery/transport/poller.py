"""When does the consumer's thread sleep, and what wakes it?

kombu's poller reads the channels' sockets, in an event loop (prefork, threads, solo) or without one (gevent, eventlet,
`drain_events`). This poller can also be woken by other threads, and gives each channel a turn before it sleeps.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import kombu.transport.redis

from celeriac.delivery.transport import pace
from celeriac.hooks.event_loop.waking import Waker

# The published stubs know little of this module's classes.
kombu_redis: Any = kombu.transport.redis


class Poller(kombu_redis.MultiChannelPoller):  # type: ignore[misc]  # Any, see kombu_redis
    """kombu's poller; other threads can wake it, and each channel gets a turn before it sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self._waker: Waker | None = None
        self.thread: int | None = None
        self.loop: Any = None
        """kombu's event loop, if the worker has one."""

    def on_poll_start(self) -> None:
        """Give every channel a turn before each sleep: it asks for messages, settles, and checks its connection."""
        super().on_poll_start()
        self._give_turns()

    def _give_turns(self) -> None:
        self.thread = threading.get_ident()
        for channel in list(self._channels):
            channel.take_turn()

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        """Wait for an event, without an event loop (gevent, eventlet, `drain_events`)."""
        if self._waker is None:
            self._waker = Waker()
            self.poller.register(self._waker.fd, self.eventflags)
        self._give_turns()  # kombu before 5.6 does not call `on_poll_start` in its `get`; a second turn does nothing
        now = time.monotonic()
        due = min((channel.pace.seconds_to_turn(now) for channel in self._channels), default=pace.LONGEST_POLL_SECONDS)
        return super().get(callback, timeout=due if timeout is None else min(timeout, due))

    def on_readable(self, fileno: int) -> Any:
        """Read a socket; kombu would close a connection that receives an announcement while the window is full."""
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind == "BRPOP" and not channel.is_asked and not channel.qos.can_consume():
            channel.read_announcement()
            raise Empty
        return super().on_readable(fileno)

    def handle_event(self, fileno: int, event: int) -> Any:
        """Handle one event; a wake-up ends the wait as any other event does."""
        if self._waker is not None and fileno == self._waker.fd:
            self._waker.woken()
            return (None, self)
        return super().handle_event(fileno, event)

    def keep_turning(self, turns: set[Any], own: set[Any]) -> None:
        """Keep the poller among the event loop's callbacks until the last channel has closed.

        kombu 5.3 removes its callback when any connection ends, and then reads nothing more (celery #7276).
        """
        ended: Callable[[Any], object] = self._on_connection_disconnect  # type: ignore[has-type]  # kombu's

        def on_end(connection: Any) -> None:
            ended(connection)
            if self._channels:
                turns.update(own)

        self._on_connection_disconnect = on_end

    def tick_in(self, seconds: float) -> None:
        """Call `on_poll_start` after `seconds`; without an event loop, `get` does this."""
        if self.loop is not None:
            self.loop.call_later(seconds, _nothing)

    def wake(self) -> None:
        """Wake the consumer's thread; it is safe to call this in that thread and with an event loop."""
        if self._waker is not None and threading.get_ident() != self.thread:
            self._waker.wake()

    def close(self) -> None:
        """Close the wake-up pipe as well."""
        super().close()
        waker, self._waker = self._waker, None
        if waker is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self.poller.unregister(waker.fd)
            waker.close()


def _nothing() -> None:
    """Do nothing; the callback of a timer that only wakes the loop."""
