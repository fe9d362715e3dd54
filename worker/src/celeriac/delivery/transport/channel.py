"""How does a channel take messages, hand them to the consumer, and settle them?

**States of one connection** (all in the thread that runs the consumer; other threads only add to `_ended`):

    idle ──take──> asked ──reply: messages──> idle
                     └─────reply: nothing───> waiting ──announcement, acknowledgement, or time──> idle

kombu's poller calls `_brpop_start` when a channel may consume and `_in_poll` is false, and `_brpop_read` when its
socket can be read. The names are kombu's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections import deque
from collections.abc import Iterator
from queue import Empty
from typing import Any, Final

import kombu.transport.redis
from celery.exceptions import WorkerShutdown, WorkerTerminate
from redis.exceptions import NoScriptError, RedisError

from celeriac.delivery import scripts
from celeriac.delivery.transport import aside, registered, tracking
from celeriac.delivery.transport.pace import OVERDUE_SECONDS, Pace
from celeriac.delivery.transport.pulling import Pulling, UndecodableBodyError
from celeriac.delivery.transport.qos import MOST_AT_ONCE, QoS
from celeriac.delivery.values import taking
from celeriac.delivery.values.outcomes import Outcome
from celeriac.store.refused import RefusedError, refusing

# The published stubs know little of this module's classes.
kombu_redis: Any = kombu.transport.redis

OLD_KEYS_EVERY_SECONDS: Final = 60.0
"""Seconds between two checks for messages that a plain worker left in kombu's own keys."""


class Channel(Pulling, kombu_redis.Channel):  # type: ignore[misc]  # Any, see kombu_redis
    """A channel that fetches atomically."""

    QoS = QoS
    is_asked = False
    """Whether a take was sent and its reply has not arrived."""
    _takes_no_more = False
    _has_caught_up = False

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self.holdings = registered.find(connection.client)
        self.pace = Pace()
        self.aside = aside.Aside()
        self._ended: deque[tuple[str, str]] = deque()  # (id, queue), settled with the next take
        self._ending: list[tuple[str, str]] = []  # sent with the current take
        self._no_ack: set[str] = set()
        self._asked: tuple[int, int, list[str]] = (0, 0, [])
        self._prepared: tuple[Any, Any] | None = None
        self._tracks = False
        self._old_keys_at = time.monotonic() + random.uniform(0, OLD_KEYS_EVERY_SECONDS)  # noqa: S311 - spreads load
        super().__init__(connection, **kwargs)

    # --- asking

    def _brpop_start(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        now = time.monotonic()
        if self.pace.must_wait(now):
            return
        if not self.aside.usable(self.active_queues, now):
            self.connection.cycle.tick_in(1)
            return
        self._ask(self.qos.window())

    def _ask(self, most: int) -> None:
        """Send the script: it takes up to `most` messages and settles the deliveries that have ended."""
        active = self.active_queues
        in_turn = self._queue_cycle.consume(len(active)) if active else []
        queues = self.aside.usable(in_turn, time.monotonic())
        connection = self.client.connection
        if self._prepared != (connection, connection._sock) or connection._sock is None:
            self._tracks = tracking.prepare(connection)
            self._prepared = connection, connection._sock
        self._ending = list(self._take_ended())
        most = min(most, MOST_AT_ONCE)
        first = self.holdings.numbers(most)
        figures = self.holdings.figures
        says = figures.say_of({delivery for delivery, _ in self._ending}) if figures and self._ending else None
        take = self._take(queues, most, first)
        names, args = dataclasses.replace(
            take,
            settle=self._ending,
            is_fair=self.queue_order_strategy == "round_robin",
            looks_first=self.pace.expects_nothing,
            says=says,
        ).build()
        self._asked = first, most, queues
        self._in_poll = connection
        self.is_asked = True
        self.pace.asked(time.monotonic())
        self._brpop_sent_at = None  # kombu's own check for overdue replies handles only BRPOP
        try:
            connection.send_command("EVALSHA", scripts.TAKE.sha, len(names), *names, *args)
        except self.connection_errors:
            self._not_answered()
            raise

    # --- reading

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ARG002 - kombu's signature
        connection = self.client.connection
        if not self.is_asked:
            self.read_announcement()
            raise Empty
        try:
            answer = taking.read(connection.read_response())
        except NoScriptError:
            self._not_answered()
            self._prepared = None  # the server lost its scripts: a restart behind a proxy, or SCRIPT FLUSH
            raise Empty from None
        except self.connection_errors:
            self._not_answered()
            connection.disconnect()
            raise
        return self._receive_answer(connection, answer)

    def read_announcement(self) -> None:
        """Read data that arrives without a request: an announcement, or the end of the connection."""
        connection = self.client.connection
        try:
            connection.read_response(push_request=True)
        except self.connection_errors:
            self._not_answered()
            connection.disconnect()
            raise
        # A list has changed: ask again when it is this worker's turn.
        self._in_poll = None
        seconds = self.pace.announced(time.monotonic())
        if seconds:
            self.connection.cycle.tick_in(seconds)

    def _answered(self) -> None:
        self.is_asked = False
        self._in_poll = None

    def _not_answered(self) -> None:
        self._answered()
        if self.holdings.figures:
            self.holdings.figures.forget()
        # These deliveries may be settled or not. Settling twice is harmless; not settling would run the task again.
        self._ended.extend(self._ending)
        self._ending = []
        first, most, queues = self._asked
        self.holdings.note_unanswered(first, most, queues)
        self._asked = (0, 0, [])

    def _receive_answer(self, connection: Any, answer: taking.Answer) -> bool:
        asked = self._asked[2]
        self._answered()
        self._ending = []
        if answer.lost:
            self.holdings.note_lost(answer.lost)
        # Record all messages before the first is delivered, so that a failure of one message does not lose the others.
        deliveries = self._hold(answer)
        if answer.place is not None and not set(self.aside.usable(self.active_queues, time.monotonic())) - set(asked):
            self._wait(connection, answer.place, found=bool(deliveries))
        self._hand_all_over(deliveries)
        self._flush_reauth()
        if answer.failed:
            self._set_aside(answer.failed, asked)
        if not deliveries:
            raise Empty
        return True

    def _set_aside(self, failed: dict[int, str], queues: list[str]) -> None:
        """Skip the failed queues for a while; if no queue is left, Redis counts as unavailable."""
        texts = {queues[number]: why for number, why in failed.items() if number >= 0}
        refused = aside.outage(failed.values(), is_all=len(texts) == len(queues))
        if refused is not None:
            self.client.connection.disconnect()
            raise RefusedError(refused)
        self.aside.add(texts, time.monotonic())

    def _hold(self, answer: taking.Answer) -> list[tuple[str, str, bytes]]:
        """Record the messages that the script has taken; return delivery, queue and message of each."""
        first, _, queues = self._asked
        deliveries = []
        for number, queue, message in answer.taken:
            delivery = self.holdings.id_of(first + number)
            self.holdings.add(delivery, queues[queue])
            deliveries.append((delivery, queues[queue], message))
        return deliveries

    def _flush_reauth(self) -> None:
        flush = getattr(super(), "_flush_brpop_reauth", None)  # kombu >= 5.6
        if flush is not None:
            flush()

    def _hand_all_over(self, deliveries: list[tuple[str, str, bytes]]) -> None:
        rest = deque(deliveries)
        try:
            while rest and not self.holdings.is_leaving():
                self._hand_over(*rest.popleft())
        finally:
            if rest:  # the worker is leaving, or the previous message ended it
                self.holdings.give_back([it for it, _, _ in rest], Outcome.RETURNED, "its worker left")

    def _hand_over(self, delivery: str, queue: str, message: bytes) -> None:
        """Give one message to its consumer."""
        payload = self._read(delivery, queue, message)
        if payload is None:
            return
        self._queue_cycle.rotate(queue)
        try:
            self.connection._deliver(payload, queue)
        except UndecodableBodyError as error:
            self.holdings.dead_letter(delivery, queue, message, f"its body cannot be decoded: {error}")
            return
        except (WorkerShutdown, WorkerTerminate, *self.connection_errors):
            raise  # not caused by the message
        except BaseException as error:
            # If this error ends the worker, only this message's delivery is counted.
            self.holdings.give_back([delivery], Outcome.REQUEUED, f"it ended its worker: {error!r}")
            raise
        if queue in self._no_ack:
            self.end_delivery(delivery)

    # --- waiting

    def _wait(self, connection: Any, place: int, *, found: bool) -> None:
        now = time.monotonic()
        if not self._tracks:
            self.connection.cycle.tick_in(self.pace.polls(now, found=found))
            return
        self._in_poll = connection
        self.pace.listens(now, place)
        if connection.can_read(timeout=0):
            # The announcement arrived together with the reply and is already buffered, so the poller would not see it.
            self.read_announcement()

    def take_turn(self) -> None:
        """Do what is due before the poller sleeps: settle, send a keepalive, check for an overdue reply."""
        client = self.__dict__.get("client")
        connection = getattr(client, "connection", None)
        if connection is None or not self._in_use():
            return
        now = time.monotonic()
        if self.is_asked:
            if self.pace.is_overdue(now) and not connection.can_read(timeout=0):
                connection.disconnect()
                self._not_answered()
                raise ConnectionError(f"Redis has not answered for {OVERDUE_SECONDS:g} s")
            return
        if self._ended or (self._in_poll and self.pace.is_quiet_for_long(now)):
            self._ask(self.qos.window())

    def _in_use(self) -> bool:
        """Return whether the poller reads this channel's socket."""
        return bool(self.active_queues) and (self, self.client, "BRPOP") in self.connection.cycle._chan_to_sock

    # --- ending deliveries

    def end_delivery(self, delivery: str) -> None:
        """Settle a delivery: with the next take if this channel consumes, otherwise at once."""
        queue = self.holdings.forget(delivery)
        if queue is None:
            return  # its lease was lost, which is already logged
        self._ended.append((delivery, queue))
        # Check this after adding the delivery: another thread may stop consuming meanwhile. In this order, at least one
        # of the two threads sees the other's change.
        connection = self.connection
        if self._takes_no_more or self.closed or not self.active_queues or connection is None or self.qos.is_by_hand:
            self.holdings.settle(self._take_ended())
        else:
            connection.cycle.wake()

    def settle_now(self) -> None:
        """Settle ended deliveries in a separate round trip, for when the next take is not due soon."""
        self.holdings.settle(self._take_ended())

    def _take_ended(self) -> Iterator[tuple[str, str]]:
        with contextlib.suppress(IndexError):
            while True:
                yield self._ended.popleft()

    def _basic_cancel(self, consumer_tag: str) -> Any:
        result = super()._basic_cancel(consumer_tag)
        if not self.active_queues:
            self._settle_last()
        return result

    def _settle_last(self) -> None:
        """Settle ended deliveries when no further take will do it."""
        if self.is_asked:
            self._read_last_answer()
        self._in_poll = None
        self.holdings.settle(self._take_ended())

    # --- beginning and ending to consume

    def basic_qos(self, *args: Any, **kwargs: Any) -> None:
        """Say how many messages this channel may hold."""
        super().basic_qos(*args, **kwargs)
        self.qos.is_set = True

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        """Consume from a queue."""
        if no_ack:
            self._no_ack.add(queue)
        result = super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        if self._in_poll and not self.is_asked and queue not in self.active_fanout_queues:
            # The connection waits for changes of the other queues' lists only: ask again, for this one as well.
            self._in_poll = None
            self.connection.cycle.wake()
        if not no_ack and queue not in self.active_fanout_queues:
            self._catch_up()
            self.holdings.watch([queue])
        return result

    def _catch_up(self) -> None:
        """Give back what the last connection left, before this one takes anything; once for each channel."""
        if self._has_caught_up:
            return
        self._has_caught_up = True
        # Where Redis is away again, the renewal does it.
        with contextlib.suppress(OSError, RedisError):
            self.holdings.catch_up()

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        self.holdings.give_back([message.delivery_tag], Outcome.REQUEUED if leftmost else Outcome.RETURNED, "restored")

    def is_time_for_old_keys(self) -> bool:
        """Whether to look into kombu's own keys now; at most once a minute for each channel."""
        now = time.monotonic()
        if now < self._old_keys_at:
            return False
        self._old_keys_at = now + OLD_KEYS_EVERY_SECONDS
        return True

    def _poll_error(self, type: str, **options: Any) -> None:  # noqa: A002 - kombu's name
        if type == "LISTEN":
            super()._poll_error(type, **options)
        else:
            self.client.connection.read_response(push_request=True)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        if asynchronous:
            params = tracking.parameters(params)
        return {**params, "connection_class": refusing(params["connection_class"])}

    def close(self) -> None:
        """Settle what has ended, and give back what was taken but did not start."""
        if not self.closed:
            self._takes_no_more = True
            self._settle_last()
            if self.holdings.is_leaving():
                with contextlib.suppress(*self.connection_errors):
                    self.holdings.give_back_delayed(at_once=True)
        super().close()

    def _read_last_answer(self) -> None:
        """Read what a take under way brings, only to give it back; without an answer its leases run out."""
        try:
            answer = taking.read(self.client.connection.read_response())
        except (*self.connection_errors, RedisError):
            self._not_answered()
            return
        self._answered()
        self._ending = []
        ids = [delivery for delivery, _, _ in self._hold(answer)]
        self.holdings.give_back(ids, Outcome.RETURNED, "its worker left")
