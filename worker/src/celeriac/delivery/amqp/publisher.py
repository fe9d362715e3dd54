"""Publishes copies of messages and dead letters, and waits until the broker has stored them.

A copy must be stored before its original is acknowledged. The connection that consumes is not used: its messages come
in between, and it may belong to another thread. If the broker does not confirm in time, `publish` raises and the caller
leaves the original where it is, so nothing is lost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

CONFIRM_SECONDS: Final = 5.0
"""Longest wait for the confirmation of one message. A broker that is out of memory or disk confirms nothing."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A message to publish. `properties` are those of AMQP, without the headers."""

    body: bytes
    headers: Mapping[str, Any]
    properties: Mapping[str, Any] = field(default_factory=dict)


class Publisher:
    """A connection with publisher confirms, made when it is first needed. Methods may be called from any thread."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._connection: Any = None
        self._declared: set[str] = set()

    def publish(self, queue: str, copy: Copy, *, arguments: Mapping[str, Any] | None = None) -> None:
        """Publish one message into a queue, and wait until the broker has stored it.

        Args:
            queue: the queue's name.
            copy: the message.
            arguments: declare the queue first, as a durable one with these arguments; `None`: it exists.

        Raises:
            OSError, amqp.exceptions.AMQPError: it is not certain that the broker has stored the message.
        """
        with self._lock:
            was_open = self._connection is not None
            try:
                self._publish(queue, copy, arguments)
            except Exception:
                self._close()
                if not was_open:
                    raise
                try:
                    self._publish(queue, copy, arguments)  # the server may have closed the idle connection
                except Exception:
                    self._close()
                    raise

    def begin_anew(self) -> None:
        """Forget the connection of the parent, in a forked process."""
        self._lock = threading.Lock()
        self._connection = None
        self._declared = set()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    def _publish(self, queue: str, copy: Copy, arguments: Mapping[str, Any] | None) -> None:
        if self._connection is None:
            # Without heartbeats, which nobody would send between two messages.
            self._connection = self._app.connection_for_write(heartbeat=0, transport_options={"confirm_publish": True})
            self._connection.ensure_connection(max_retries=0)
        channel = self._connection.default_channel
        if arguments is not None and queue not in self._declared:
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=dict(arguments))
            self._declared.add(queue)
        others = dict(copy.properties)
        named = {name: others.pop(name, None) for name in ("priority", "content_type", "content_encoding")}
        message = channel.prepare_message(copy.body, headers=dict(copy.headers), properties=others, **named)
        channel.basic_publish(
            message, exchange="", routing_key=queue, timeout=CONFIRM_SECONDS, confirm_timeout=CONFIRM_SECONDS
        )

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._declared = set()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
