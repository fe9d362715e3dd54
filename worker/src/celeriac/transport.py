"""kombu's Redis transport with an atomic fetch.

kombu takes a message with BRPOP and writes it down as unacknowledged in a second step; a worker killed in between
loses it. Here one script moves messages from the queues' lists into the held set, up to the free prefetch window, and
settles in the same round trip what has ended since the last one. Lists and messages stay kombu's, so plain producers
and plain workers work on the same queues.

**Waiting.** When the script finds every list empty, it has read them, and this connection tracks what it reads (CLIENT
TRACKING, Redis 6): the server says once that a list has changed, and then the script runs again. An idle worker sends
nothing but a sign of life every few seconds. All idle workers of a queue hear of each message; one that comes too late
waits a little longer before it tries the next time, so that a crowd does not run for every message. Where the server,
its ACL or a proxy refuses tracking, the lists are asked in growing intervals instead.

**Timeline of one connection** (all in the thread that runs the consumer; others only add to `_ended`):

    idle ──take──> asked ──answer: messages──> idle
                     └─────answer: nothing───> waiting ──notice, an acknowledgement, or time──> idle

kombu's poller calls `_brpop_start` when a channel may consume and `_in_poll` is false, and `_brpop_read` when its
socket can be read; the names are kombu's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from queue import Empty
from typing import Any, Final

import kombu.transport.redis
import kombu.transport.virtual
from kombu.utils.json import loads
from redis.exceptions import NoScriptError, ResponseError

from celeriac import keys, outcomes, scripts
from celeriac.holdings import Holdings
from celeriac.outcomes import Outcome

logger = logging.getLogger(__name__)

# The published stubs know little of this module's classes.
kombu_redis: Any = kombu.transport.redis
virtual: Any = kombu.transport.virtual

OPTION: Final = "celeriac_identity"
"""The transport option that names the holdings of this process."""

MOST_AT_ONCE: Final = 64
"""Messages in one answer: bounds its size and the time that the script blocks the server."""
SIGN_OF_LIFE_SECONDS: Final = 5.0
"""A waiting connection asks at least this often: an announcement lost with a half-open connection is made good."""
OVERDUE_SECONDS: Final = 10.0
"""An answer that takes longer means that the connection is dead."""
LONGEST_POLL_SECONDS: Final = 1.0
SHORTEST_POLL_SECONDS: Final = 0.02
LONGEST_SPREAD_SECONDS: Final = 0.05
SHORTEST_SPREAD_SECONDS: Final = 0.001
OLD_KEYS_EVERY_SECONDS: Final = 60.0
"""How often messages that a plain worker left behind in kombu's own keys are looked for."""

_holdings: dict[str, Holdings] = {}


def register(holdings: Holdings) -> None:
    """Let transports with this identity in their options hold messages here."""
    _holdings[holdings.identity] = holdings


def unregister(holdings: Holdings) -> None:
    """Undo `register`."""
    _holdings.pop(holdings.identity, None)


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # Any, see kombu_redis
    """What a channel holds; the record in Redis is the script's, so nothing is written here."""

    channel: Channel

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message against the prefetch window."""
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Settle a message: at the next round trip of the fetch."""
        virtual.QoS.ack(self, delivery_tag)
        self.channel.end_delivery(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Settle a message, or give it back.

        One given back goes to the end of the line, and the delivery counts; from a worker that leaves it goes to the
        front and costs nothing.
        """
        virtual.QoS.ack(self, delivery_tag)
        holdings = self.channel.holdings
        if requeue and holdings.is_leaving():
            holdings.give_back([delivery_tag], Outcome.RETURNED, "its worker left")
        elif requeue:
            holdings.give_back([delivery_tag], Outcome.REQUEUED, "its task or its process gave it back")
        else:
            self.channel.end_delivery(delivery_tag)

    def window(self) -> int:
        """How many more messages may be held now."""
        if not self.prefetch_count:
            return MOST_AT_ONCE
        return max(0, int(self.prefetch_count) - len(self._delivered) + len(self._dirty))

    def can_consume(self) -> bool:
        """As kombu's; always true while an answer is due, since what it brings is already taken."""
        return self.channel.is_asked or super().can_consume()

    def restore_unacked(self, client: Any = None) -> list[Any]:  # noqa: ARG002 - kombu's signature
        """Give back what this channel holds and nothing runs; called when it closes."""
        self._flush()
        tags = [tag for tag in self._delivered if not self.channel.holdings.keeps(tag)]
        self._delivered.clear()
        self.channel.holdings.give_back(tags, Outcome.RETURNED, "its worker left")
        return []

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:  # noqa: ARG002 - kombu's
        """Put back what plain workers left behind in kombu's own keys, after kombu's own time."""
        if self.channel.is_time_for_old_keys():
            super().restore_visible(start, num, interval=1)


class Poller(kombu_redis.MultiChannelPoller):  # type: ignore[misc]  # Any, see kombu_redis
    """kombu's poller, woken from other threads, and giving each channel a turn before it sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self._wake_fds: tuple[int, int] | None = None
        self._woken = False
        self.thread: int | None = None
        self.loop: Any = None
        """kombu's event loop, where the worker has one."""

    def on_poll_start(self) -> None:
        """Before each sleep: ask, settle and look after every channel."""
        self.thread = threading.get_ident()
        super().on_poll_start()
        for channel in list(self._channels):
            channel.take_turn()

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        """Wait for something without an event loop (gevent, eventlet, `drain_events`)."""
        if self._wake_fds is None:
            self._wake_fds = os.pipe()
            for fd in self._wake_fds:
                os.set_blocking(fd, False)
            self.poller.register(self._wake_fds[0], self.eventflags)
        due = min((channel.seconds_to_turn() for channel in self._channels), default=LONGEST_POLL_SECONDS)
        return super().get(callback, timeout=due if timeout is None else min(timeout, due))

    def handle_event(self, fileno: int, event: int) -> Any:
        """Read one event; a wake-up ends the wait like any other."""
        if self._wake_fds is not None and fileno == self._wake_fds[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(fileno, 64)
            self._woken = False
            return (None, self)
        return super().handle_event(fileno, event)

    def tick_in(self, seconds: float) -> None:
        """Have `on_poll_start` called after so long; without an event loop `get` sees to that."""
        if self.loop is not None:
            self.loop.call_later(seconds, _nothing)

    def wake(self) -> None:
        """End a wait of the consumer's thread; harmless from that thread and with an event loop."""
        if self._wake_fds is not None and not self._woken and threading.get_ident() != self.thread:
            self._woken = True
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(self._wake_fds[1], b"\0")

    def close(self) -> None:
        """Close the wake-up pipe as well."""
        super().close()
        if self._wake_fds is not None:
            read, write = self._wake_fds
            self._wake_fds = None
            with contextlib.suppress(KeyError, ValueError, OSError):
                self.poller.unregister(read)
            os.close(read)
            os.close(write)


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # Any, see kombu_redis
    """A channel that fetches atomically."""

    QoS = QoS
    holdings: Holdings
    is_asked = False
    """A take was sent and its answer is due."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        identity = connection.client.transport_options.get(OPTION)
        self.holdings = _holdings[identity]
        self._ended: deque[tuple[str, str]] = deque()  # (id, queue), to be settled with the next take
        self._ending: list[tuple[str, str]] = []  # sent with the take that is under way
        self._no_ack: set[str] = set()
        self._asked_at = 0.0
        self._asked: tuple[int, list[str]] = (0, [])
        self._waiting_since: float | None = None
        self._wait_seconds = SIGN_OF_LIFE_SECONDS
        self._turn_at: float | None = None
        self._spread = 0.0
        self._was_woken = False
        self._prepared: tuple[Any, Any] | None = None
        self._tracks = False
        self._old_keys_at = time.monotonic() + random.uniform(0, OLD_KEYS_EVERY_SECONDS)  # noqa: S311 - spreads load
        super().__init__(connection, **kwargs)

    # --- asking

    def _brpop_start(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        if self._turn_at is not None and time.monotonic() < self._turn_at:
            return
        self._ask(self.qos.window())

    def _ask(self, most: int) -> None:
        """Send the script: take up to `most` messages, settle what has ended."""
        active = self.active_queues
        queues = self._queue_cycle.consume(len(active)) if active else []
        connection = self.client.connection
        self._prepare(connection)
        self._ending = list(self._take_ended())
        others = sorted({queue for _, queue in self._ending}.difference(queues))
        all_queues = [*queues, *others]
        index = {queue: number for number, queue in enumerate(all_queues, 1)}
        most = min(most, MOST_AT_ONCE)
        number = self.holdings.numbers(most)
        prefix = self.global_keyprefix
        names: list[str] = []
        for queue in all_queues:
            names += (keys.held(queue, prefix=prefix), keys.leases(queue, prefix=prefix))
        names += [f"{prefix}{self._q_for_pri(queue, step)}" for step in self.priority_steps for queue in queues]
        order = "fair" if self.queue_order_strategy == "round_robin" else "strict"
        lease = int(self.holdings.lease_seconds * 1000)
        args: list[Any] = [len(queues), len(others), most, lease, f"{self.holdings.identity}:", number, order]
        args.append(len(self._ending))
        for delivery, queue in self._ending:
            args += (index[queue], delivery)
        self._asked = number, queues
        self._in_poll = connection
        self.is_asked = True
        self._asked_at = time.monotonic()
        self._waiting_since = self._turn_at = None
        self._brpop_sent_at = None  # kombu's own check of overdue answers knows only BRPOP
        try:
            connection.send_command("EVALSHA", scripts.TAKE.sha, len(names), *names, *args)
        except self.connection_errors:
            self._not_answered()
            raise

    def _prepare(self, connection: Any) -> None:
        """Load the script and switch tracking on, once for each socket."""
        if self._prepared == (connection, connection._sock) and connection._sock is not None:
            return
        if connection._sock is None:
            connection.connect()
        connection.send_command("SCRIPT", "LOAD", scripts.TAKE.source)
        connection.read_response()
        self._tracks = self._track(connection)
        self._prepared = connection, connection._sock

    def _track(self, connection: Any) -> bool:
        if str(getattr(connection, "protocol", 2)) != "3":
            return False
        try:
            connection.send_command("CLIENT", "TRACKING", "ON")
            connection.read_response()
        except ResponseError as error:
            logger.info("this Redis refuses CLIENT TRACKING (%s): queues are polled", error)
            return False
        parser = connection._parser
        # redis-py before 5.1 knows one handler for everything that is announced; this connection hears nothing else.
        listen = getattr(parser, "set_invalidation_push_handler", None) or parser.set_push_handler
        listen(lambda _: None)
        return True

    # --- reading

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ARG002 - kombu's signature
        connection = self.client.connection
        try:
            if not self.is_asked:
                # Nothing but an announcement (or the end of the connection) can come.
                connection.read_response(push_request=True)
                self._notice()
                raise Empty
            answer: list[Any] = connection.read_response()
        except NoScriptError:
            self._not_answered()
            self._prepared = None  # the server forgot its scripts: a restart behind a proxy, SCRIPT FLUSH
            raise Empty from None
        except self.connection_errors:
            self._not_answered()
            connection.disconnect()
            raise
        return self._receive_answer(connection, answer)

    def _answered(self) -> None:
        self.is_asked = False
        self._in_poll = None

    def _not_answered(self) -> None:
        self._answered()
        # What was sent to be settled may have been; settling twice is harmless, not settling is not.
        self._ended.extend(self._ending)
        self._ending = []

    def _receive_answer(self, connection: Any, answer: list[Any]) -> bool:
        self._answered()
        self._ending = []
        is_empty, lost, *taken = answer
        if lost:
            self.holdings.note_lost([item.decode() for item in lost])
        number, queues = self._asked
        deliveries = []
        for offset, at in enumerate(range(0, len(taken), 3)):
            queue, delivery = queues[taken[at]], self.holdings.id_of(number + offset)
            # Held first, delivered after: whatever goes wrong with one message, all the others are known.
            self.holdings.add(delivery, queue)
            deliveries.append((delivery, queue, taken[at + 2]))
        if self._was_woken:
            self._was_woken = False
            self._spread = 0.0 if deliveries else self._longer_spread()
        if is_empty:
            self._wait(connection, took=bool(deliveries))
        for at, (delivery, queue, message) in enumerate(deliveries):
            if self.holdings.is_leaving():
                rest = [it for it, _, _ in deliveries[at:]]
                self.holdings.give_back(rest, Outcome.RETURNED, "its worker leaves")
                break
            self._hand_over(delivery, queue, message)
        self._flush_reauth()
        if not deliveries:
            raise Empty
        return True

    def _flush_reauth(self) -> None:
        flush = getattr(super(), "_flush_brpop_reauth", None)  # kombu >= 5.6
        if flush is not None:
            flush()

    def _hand_over(self, delivery: str, queue: str, message: bytes) -> None:
        """Give one message to its consumer."""
        try:
            payload = loads(message.decode())
            payload["properties"]["delivery_tag"] = delivery
        except (ValueError, TypeError, KeyError) as error:
            self.holdings.bury(delivery, queue, message, f"unreadable message: {error!r}")
            return
        if outcomes.must_bury(payload, self.holdings.max_deliveries):
            count = outcomes.deliveries(payload)
            self.holdings.bury(delivery, queue, message, f"delivered {count} times without coming to an end")
            return
        self._queue_cycle.rotate(queue)
        self.connection._deliver(payload, queue)
        if queue in self._no_ack:
            self.end_delivery(delivery)

    # --- waiting

    def _wait(self, connection: Any, *, took: bool) -> None:
        self._waiting_since = time.monotonic()
        if self._tracks:
            self._in_poll = connection
            self._wait_seconds = SIGN_OF_LIFE_SECONDS
            if connection.can_read(timeout=0):
                # The announcement came with the answer, and lies where no poller sees it.
                connection.read_response(push_request=True)
                self._notice()
            return
        longer = min(LONGEST_POLL_SECONDS, self._wait_seconds * 1.5)
        self._wait_seconds = SHORTEST_POLL_SECONDS if took or self._wait_seconds > LONGEST_POLL_SECONDS else longer
        self._turn_in(self._wait_seconds)

    def _turn_in(self, seconds: float) -> None:
        """Ask again after a moment."""
        self._turn_at = time.monotonic() + seconds
        self.connection.cycle.tick_in(seconds)

    def _notice(self) -> None:
        """A list has changed: ask again, after a moment if others were quicker the last time."""
        self._in_poll = None
        self._was_woken = True
        self._waiting_since = None
        if self._spread:
            self._turn_in(random.uniform(0, self._spread))  # noqa: S311 - spreads load

    def _longer_spread(self) -> float:
        return min(LONGEST_SPREAD_SECONDS, max(SHORTEST_SPREAD_SECONDS, self._spread * 2))

    def seconds_to_turn(self) -> float:
        """How long the poller may sleep before `take_turn` has something to do."""
        now = time.monotonic()
        if self._turn_at is not None:
            return max(0.0, self._turn_at - now)
        return 1.0

    def take_turn(self) -> None:
        """What is due before the poller sleeps: settling, a sign of life, an answer that never came."""
        client = self.__dict__.get("client")
        connection = getattr(client, "connection", None)
        if connection is None or not self._in_use():
            return
        now = time.monotonic()
        if self.is_asked:
            if now - self._asked_at > OVERDUE_SECONDS and not connection.can_read(timeout=0):
                connection.disconnect()
                self._not_answered()
                raise ConnectionError(f"Redis has not answered for {OVERDUE_SECONDS:g} s")
            return
        is_quiet = self._waiting_since is not None and now - self._waiting_since > self._wait_seconds
        if self._ended or (is_quiet and self._in_poll):
            self._ask(self.qos.window())

    def _in_use(self) -> bool:
        """Whether the poller reads this channel's socket."""
        return bool(self.active_queues) and (self, self.client, "BRPOP") in self.connection.cycle._chan_to_sock

    # --- ending deliveries

    def end_delivery(self, delivery: str) -> None:
        """Settle a delivery: with the next take while this channel consumes, at once when it does not."""
        queue = self.holdings.forget(delivery)
        if queue is None:
            return  # its lease was lost, which has been said
        connection = self.connection
        if connection is None or self.closed or not self.active_queues:
            self.holdings.settle([(delivery, queue)])
            return
        self._ended.append((delivery, queue))
        connection.cycle.wake()

    def _take_ended(self) -> Iterator[tuple[str, str]]:
        while self._ended:
            yield self._ended.popleft()

    # --- kombu's other ways to messages

    def _get(self, queue: str) -> Any:
        """Take one message now (`basic_get`)."""
        number = self.holdings.numbers(1)
        prefix = self.global_keyprefix
        names = [keys.held(queue, prefix=prefix), keys.leases(queue, prefix=prefix)]
        names += [f"{prefix}{self._q_for_pri(queue, step)}" for step in self.priority_steps]
        lease = int(self.holdings.lease_seconds * 1000)
        args = [1, 0, 1, lease, f"{self.holdings.identity}:", number, "strict", 0]
        _, _, *taken = scripts.TAKE.run(self.holdings.client, names, args)
        if not taken:
            raise Empty
        delivery = self.holdings.id_of(number)
        self.holdings.add(delivery, queue)
        payload = loads(taken[2].decode())
        payload["properties"]["delivery_tag"] = delivery
        return payload

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Take one message now, or `None`."""
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack:
            self.end_delivery(message.delivery_tag)
        return message

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        """Consume from a queue."""
        if no_ack:
            self._no_ack.add(queue)
        result = super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        if not no_ack and queue not in self.active_fanout_queues:
            self.holdings.watch([queue])
            self.holdings.start()
        return result

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
            params["protocol"] = 3  # announcements need RESP3
            params["connection_class"] = _greets_before_it_is_checked(params["connection_class"])
            # redis-py before 6 logs whatever is announced, other people's messages too, unless this logger exists.
            logging.getLogger("push_response").setLevel(logging.WARNING)
        return params

    def close(self) -> None:
        """Settle what has ended, and give back what was taken but did not start."""
        if not self.closed:
            if self.is_asked:
                self._read_last_answer()
            self._in_poll = None
            self.holdings.settle(self._take_ended())
            if self.holdings.is_leaving():
                with contextlib.suppress(*self.connection_errors):
                    self.holdings.give_back_delayed(at_once=True)
        super().close()

    def _read_last_answer(self) -> None:
        """Read what a take under way brings, only to give it back; without an answer its leases run out."""
        try:
            answer = self.client.connection.read_response()
        except (*self.connection_errors, NoScriptError):
            self._not_answered()
            return
        self._answered()
        self._ending = []
        number, queues = self._asked
        taken = answer[2:]
        ids = []
        for offset, at in enumerate(range(0, len(taken), 3)):
            delivery = self.holdings.id_of(number + offset)
            self.holdings.add(delivery, queues[taken[at]])
            ids.append(delivery)
        self.holdings.give_back(ids, Outcome.RETURNED, "its worker left")


def _greets_before_it_is_checked(connection_class: type[Any]) -> type[Any]:
    """redis-py before 6 checks a new RESP3 connection's health before it has sent the password, which a server that
    wants one refuses. A connection that was opened just now needs no check."""

    class Greeting(connection_class):  # type: ignore[misc]  # a class made at run time
        def on_connect(self, *args: Any, **kwargs: Any) -> None:
            self.next_health_check = float("inf")  # the first answer sets it right
            super().on_connect(*args, **kwargs)

    Greeting.__name__ = connection_class.__name__
    return Greeting


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # Any, see kombu_redis
    """kombu's Redis transport, with an atomic fetch for connections whose options name the holdings of this process.

    Any other connection (an application's own) gets kombu's transport unchanged.
    """

    Channel = Channel
    plain_channel = kombu_redis.Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        if client.transport_options.get(OPTION) in _holdings:
            self.cycle = Poller()
        else:
            self.Channel = self.plain_channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let an event loop read this transport's sockets."""
        if isinstance(self.cycle, Poller):
            self.cycle.loop = loop
        super().register_with_event_loop(connection, loop)


class SentinelChannel(Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]  # Any, see kombu_redis
    """The same behind Sentinel."""


class SentinelTransport(Transport, kombu_redis.SentinelTransport):  # type: ignore[misc]  # Any, see kombu_redis
    """The same behind Sentinel."""

    Channel = SentinelChannel
    plain_channel = kombu_redis.SentinelChannel
    default_port = 26379


def _nothing() -> None:
    """A timer's callback: that the loop turns is all."""
