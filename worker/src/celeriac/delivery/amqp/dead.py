"""Reads the dead-letter queues of an AMQP broker.

An entry is one message of the queue `celeriac.dead.{queue}`. Reading takes the messages without acknowledging them, so
that the broker returns them when the connection is closed; until then nobody else sees them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from celeriac.delivery.amqp.publisher import Copy, Publisher
from celeriac.delivery.values import amqp, messages
from celeriac.delivery.values.letter import Letter

MOST_READ: Final = 10_000
"""Entries of one queue that are read, the oldest first."""


class AmqpDeadLetters:
    """The dead-letter queues of one virtual host. Close it to return the entries that were read."""

    def __init__(self, app: Any, *, queues: Iterable[str], forget: Callable[[str], object] = lambda _: None) -> None:
        """Prepare to read.

        Args:
            app: the application.
            queues: the queues whose dead letters `read` looks for if it is not told others; AMQP has no list of queues.
            forget: called with the id of a task that will run again; makes its result pending.
        """
        self._queues = sorted(set(queues))
        self._forget = forget
        self._publisher = Publisher(app)
        self._connection = app.connection_for_write()
        self._read: dict[str, Any] = {}

    def read(self, queues: Iterable[str] | None = None) -> Iterator[Letter]:
        """Yield the entries of these queues, the oldest entry of each queue first.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        self._connection.ensure_connection(max_retries=0)
        for queue in self._queues if queues is None else queues:
            for message in self._messages(amqp.dead_queue(queue)):
                entry = str(message.properties.get("message_id") or message.delivery_tag)
                self._read[entry] = message
                yield Letter(entry, replace(amqp.read(_bytes(message.body), queue=queue), queue=queue))

    def requeue(self, letter: Letter) -> bool:
        """Put a message back into its queue and reset its count of deliveries; return whether it was still there.

        Raises:
            ValueError: the message cannot be read, so no worker could run it.
        """
        payload = letter.dead.payload()
        if payload is None:
            raise ValueError(f"entry {letter.entry} is not a message that a worker can read; it can only be dropped")
        message = self._read.pop(letter.entry, None)
        if message is None:
            return False
        task_id = messages.task_of(payload)[1]
        if task_id:
            self._forget(task_id)
        self._publisher.publish(letter.dead.queue, Copy(*amqp.published(payload)))
        message.ack()
        return True

    def drop(self, letter: Letter) -> bool:
        """Delete an entry permanently; return whether it was still there."""
        message = self._read.pop(letter.entry, None)
        if message is not None:
            message.ack()
        return message is not None

    def close(self) -> None:
        """Return what was read and neither requeued nor dropped, and disconnect."""
        self._publisher.close()
        with contextlib.suppress(Exception):
            self._connection.close()

    def _messages(self, name: str) -> Iterator[Any]:
        channel = self._connection.channel()
        try:
            channel.queue_declare(name, passive=True)
        except self._connection.channel_errors:  # there is no such queue; the broker has closed the channel
            return
        for _ in range(MOST_READ):
            message = channel.basic_get(name, no_ack=False)
            if message is None:
                return
            yield channel.message_to_python(message)


def _bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body or b"")
