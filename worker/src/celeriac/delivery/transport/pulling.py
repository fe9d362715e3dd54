"""How is a queue looked at without consuming from it: one message at a time (`basic_get`), or its length?"""

from __future__ import annotations

import time
from queue import Empty
from typing import TYPE_CHECKING, Any

from kombu.utils.json import loads
from redis.exceptions import ResponseError

from celeriac.delivery import scripts, taking
from celeriac.delivery.holdings import AWAY, Holdings
from celeriac.delivery.transport import aside
from celeriac.store.error_replies import text_of

if TYPE_CHECKING:
    _Channel = Any  # kombu's channel
else:
    _Channel = object


class Pulling(_Channel):  # type: ignore[misc]  # kombu's channel, which it is put before
    """What a channel does besides consuming; to be put before kombu's class."""

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
        """The names of the queues' lists, all queues of the first priority first."""
        return [f"{self.global_keyprefix}{self._q_for_pri(it, step)}" for step in self.priority_steps for it in queues]

    def _size(self, queue: str) -> int:
        """Messages that wait in a queue; 0 where that cannot be asked, which must not keep the others from starting."""
        try:
            return int(super()._size(queue))
        except ResponseError as error:
            if aside.outage([text_of(error)], is_all=False) is not None:
                raise
            self.aside.add({queue: text_of(error)}, time.monotonic())
            return 0

    def _get(self, queue: str) -> Any:
        """Take one message now (`basic_get`)."""
        first = self.holdings.numbers(1)
        names, args = self._take([queue], 1, first).build()
        try:
            answer = taking.read(scripts.TAKE.run(self.holdings.client, names, args))
        except AWAY:
            self.holdings.note_unanswered(first, 1, [queue])
            raise
        if not answer.taken:
            if answer.failed:
                # Among others: the client sent it again, and the first time had brought a message.
                self.holdings.note_unanswered(first, 1, [queue])
            raise Empty
        delivery = self.holdings.id_of(first)
        self.holdings.add(delivery, queue)
        payload = loads(answer.taken[0][2].decode())
        payload["properties"]["delivery_tag"] = delivery
        return payload

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Take one message now, or `None`."""
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack:
            self.end_delivery(message.delivery_tag)
        return message
