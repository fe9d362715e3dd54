"""Takes and reads single messages, and counts the messages of a queue; for channels with and without consumers."""

from __future__ import annotations

import time
from queue import Empty
from typing import TYPE_CHECKING, Any

from kombu.utils.json import loads
from redis.exceptions import ResponseError

from celeriac.delivery import scripts
from celeriac.delivery.holdings import AWAY, Holdings
from celeriac.delivery.transport import aside
from celeriac.delivery.values import messages, outcomes, taking
from celeriac.store.error_replies import text_of

if TYPE_CHECKING:
    _Channel = Any  # kombu's channel
else:
    _Channel = object


class UndecodableBodyError(Exception):
    """The body of a message does not have the encoding that its `body_encoding` names."""


class Pulling(_Channel):  # type: ignore[misc]  # kombu's channel, which it is put before
    """A mixin for kombu's channel: everything except consuming."""

    holdings: Holdings
    aside: aside.Aside

    def _take(self, queues: list[str], most: int, first: int) -> taking.Take:
        return taking.Take(
            queues=queues,
            lists=self._lists(queues),
            prefix=self.global_keyprefix,
            most=most,
            lease_seconds=self.holdings.lease_seconds,
            identity=self.holdings.identity,
            first=first,
        )

    def _lists(self, queues: list[str]) -> list[str]:
        """Return the names of the queues' lists, ordered by priority first."""
        return [f"{self.global_keyprefix}{self._q_for_pri(it, step)}" for step in self.priority_steps for it in queues]

    def _size(self, queue: str) -> int:
        """Return the messages in a queue; 0 if Redis refuses, because the other queues must still start."""
        try:
            return int(super()._size(queue))
        except ResponseError as error:
            if aside.outage([text_of(error)], is_all=False) is not None:
                raise
            self.aside.add({queue: text_of(error)}, time.monotonic())
            return 0

    def _get(self, queue: str) -> Any:
        """Take one message now (`basic_get`); an unreadable one is dead-lettered, and the next one is taken."""
        payload = None
        while payload is None:
            delivery, message = self._take_one(queue)
            payload = self._read(delivery, queue, message)
            if payload is None:
                continue
            try:
                self.decode_body(payload.get("body") or "", payload["properties"].get("body_encoding"))
            except UndecodableBodyError as error:
                self.holdings.dead_letter(delivery, queue, message, f"its body cannot be decoded: {error}")
                payload = None
        return payload

    def _take_one(self, queue: str) -> tuple[str, bytes]:
        first = self.holdings.numbers(1)
        names, args = self._take([queue], 1, first).build()
        try:
            answer = taking.read(scripts.TAKE.run(self.holdings.client, names, args))
        except AWAY:
            self.holdings.note_unanswered(first, 1, [queue])
            raise
        if not answer.taken:
            if answer.failed:
                # For instance, the client may have sent the command twice, and the first one may have taken a message.
                self.holdings.note_unanswered(first, 1, [queue])
            raise Empty
        delivery = self.holdings.id_of(first)
        self.holdings.add(delivery, queue)
        return delivery, answer.taken[0][2]

    def _read(self, delivery: str, queue: str, message: bytes) -> dict[str, Any] | None:
        """Read one message that was taken; `None` if it had to be dead-lettered."""
        try:
            payload = loads(message.decode())
            why = messages.why_unreadable(payload)
        except Exception as error:  # an application may have registered the function that reads a typed value
            payload, why = None, f"it cannot be read: {error!r}"
        if why is None:
            why = outcomes.why_given_up(payload, self.holdings.max_deliveries)
        if why is not None:
            self.holdings.dead_letter(delivery, queue, message, why)
            return None
        payload["properties"]["delivery_tag"] = delivery
        return payload  # type: ignore[no-any-return]  # a dict, or there were a reason

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        """Decode a body from its `body_encoding`.

        Raises:
            UndecodableBodyError: the body does not have this encoding.
        """
        try:
            return super().decode_body(body, encoding)
        except ValueError as error:
            raise UndecodableBodyError(str(error)) from None

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Take one message now, or `None`."""
        if not no_ack:
            self.holdings.watch([queue])
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack:
            self.end_delivery(message.delivery_tag)
        return message
