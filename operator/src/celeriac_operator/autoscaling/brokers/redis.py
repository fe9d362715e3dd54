"""How are the figures of queues in Redis read?

One script per pool, all sent in one write, reads the lengths of all lists of its queues (each priority has a list of
its own), the messages that workers hold, the workers' reports, and when the oldest message was published. A script runs
atomically, so a message that moves between list and worker is never missed.

**Limits.** Messages that plain Celery workers hold (kombu's `unacked`) are not counted, because Redis does not know
which queue they came from. The age of a message is known only if its producer has the library. A task that is
acknowledged before it runs is known from its worker's report, which is written in the same step.

**Arrivals.** The connection tracks what the script reads (`CLIENT TRACKING`): Redis announces once that a key has
changed. An announcement for a queue that the last reading found empty is an arrival.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from celeriac_operator.autoscaling.brokers import faults, layout, metering, scripts, sentinels, urls
from celeriac_operator.autoscaling.brokers.access import Access
from celeriac_operator.autoscaling.brokers.conversation import Conversation, RedisReply
from celeriac_operator.autoscaling.brokers.layout import Adding, Layout
from celeriac_operator.autoscaling.brokers.readings import (
    Misbehaving,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.brokers.replies import REFUSED, TOO_LARGE, Said
from celeriac_operator.autoscaling.brokers.resolving import Resolver
from celeriac_operator.printable import printable

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
"""Limit of one reading, including the connect: half of the age at which figures become stale."""

ATTEMPTS: Final = 3
"""How often a pool is queried in one reading. The second attempt is needed when the layout record has changed."""

MAX_LISTS: Final = 1024
"""Most lists of one pool: 64 queues with 16 priorities each, or fewer queues with more."""

REPORTS_AT_ONCE: Final = 250
"""Workers' reports that are read before other tasks may run."""

COSTLY_SECONDS: Final = 0.003
"""A reply that took the operator longer makes its pool rest, so that it costs others little."""

REST: Final = 20
"""For how many times its cost a costly pool rests, times the number of costly pools."""

MOST_REST_SECONDS: Final = 8.0
"""Longest rest: figures are stale after 10 s."""

_costly: set[tuple[int, str]] = set()
"""The costly pools of all brokers of this process."""


@dataclass
class PoolQuery:
    """The query of one pool, and its last reply."""

    watched: Watched
    layout: Layout = field(default_factory=Layout)
    record: bytes = b""
    packed: list[bytes] = field(default_factory=list)
    """The encoded call of the script."""
    quiet: set[str] = field(default_factory=set)
    """Queues that the last reply found empty and that have not changed since."""
    reply: RedisReply = None
    has_odd_record: bool = False
    """Whether the layout record cannot be read, which has been logged."""
    cost_seconds: float = 0.0
    """Processor time that the last reply took; not the time on the clock, which is longer on a busy machine."""
    rests_until: float = 0.0
    """Until when the last reading is used again, in the caller's clock."""
    reading: Reading | None = None

    @property
    def lists(self) -> Iterable[tuple[str, bytes]]:
        """Queue and key of each list."""
        return ((queue, name.encode()) for queue in self.watched.queues for name in self.layout.lists(queue))

    def call(self) -> list[str | bytes | int]:
        """Build the call of the script."""
        keys = [layout.layout_key(self.watched.pool), layout.workers_key(self.watched.pool)]
        for queue in self.watched.queues:
            keys += [self.layout.held(queue), *self.layout.lists(queue)]
        return ["EVALSHA", scripts.READ_SHA, len(keys), *keys, self.record, len(self.layout.steps)]


class RedisBroker:
    """Reads one Redis; the module's docstring states the limits.

    Args:
        access: which hosts may be connected to; a sentinel may name any other.
        resolver: resolves host names.
    """

    def __init__(self, address: urls.Redis | urls.Sentinels, *, access: Access, resolver: Resolver) -> None:
        self._address = address
        self._access = access
        self._resolver = resolver
        self._next = 0
        self._conversation: Conversation | None = None
        self._queries: dict[str, PoolQuery] = {}
        self._by_list: dict[bytes, list[tuple[PoolQuery, str]]] = {}
        self._arrived: set[str] = set()
        self._arrival = asyncio.Event()
        self._refused: set[str] = set()
        self._has_said_deaf = False

    # --- reading

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        """See `Broker`."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._read(pools, now=now, only=only)
        except UnusableURL as error:  # of a master that a sentinel has named
            await self._hang_up()
            raise Unreachable(str(error)) from None
        except TimeoutError:
            await self._hang_up()
            raise Unreachable(f"{self._shown} has not responded within {READ_SECONDS:g} s") from None
        except Exception as error:  # whatever a server sends must not look like a bug of the operator
            await self._hang_up()
            logger.debug("%s: %r", self._shown, error)
            raise faults.read(error, server=self._shown) from None

    async def _read(self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None) -> dict[str, Reading]:
        conversation = await self._connected()
        if only is None:
            self._follow(pools)
        chosen = {name: query for name, query in self._queries.items() if only is None or name in only}
        queries = [query for query in chosen.values() if query.reading is None or query.rests_until <= now]
        if queries:  # a question without replies would wait for one
            await self._ask_until_current(conversation, queries)
        for query in queries:
            await self._take(query, now)
        return {name: query.reading for name, query in chosen.items() if query.reading is not None}

    async def _ask_until_current(self, conversation: Conversation, queries: list[PoolQuery]) -> None:
        for query in queries:
            query.cost_seconds = 0.0
        for _ in range(ATTEMPTS):
            await self._ask(conversation, queries)
            queries = [query for query in queries if self._must_be_repeated(query)]
            if not queries:
                return
            self._map_lists()
        for query in queries:  # the record changes all the time
            query.reply = REFUSED

    async def _take(self, query: PoolQuery, now: float) -> None:
        """Take in the last reply of a pool. Other tasks may run in between."""
        name = query.watched.pool
        if isinstance(query.reply, Said):
            self._refused.discard(name)
            query.reading = await self._add_up(query, query.reply, now)
        else:
            query.reading = None
            if name not in self._refused:
                self._refused.add(name)
                why = printable(query.reply) if isinstance(query.reply, ResponseError) else TOO_LARGE
                logger.warning("%s refuses to show the queues of %s: %s", self._shown, name, why)
        query.reply = None
        mark = (id(self), name)
        if query.cost_seconds <= COSTLY_SECONDS:
            _costly.discard(mark)
            return
        _costly.add(mark)
        query.rests_until = now + min(query.cost_seconds * REST * len(_costly), MOST_REST_SECONDS)

    async def _add_up(self, query: PoolQuery, said: Said, now: float) -> Reading:
        adding = Adding()
        for first in range(0, len(said.reports), REPORTS_AT_ONCE):
            began = time.thread_time()
            for report in said.reports[first : first + REPORTS_AT_ONCE]:
                adding.add(report)
            query.cost_seconds += time.thread_time() - began
            await asyncio.sleep(0)
        return said.reading(adding.workers, now=now)

    def _follow(self, pools: Sequence[Watched]) -> None:
        """Query these pools from now on, and no others."""
        if [query.watched for query in self._queries.values()] == list(pools):
            return
        before, self._queries = self._queries, {}
        for watched in pools:
            known = before.get(watched.pool)
            if known is None or known.watched != watched:
                known = PoolQuery(watched) if known is None else PoolQuery(watched, known.layout, known.record)
            self._queries[watched.pool] = known
        _costly.difference_update((id(self), name) for name in before.keys() - self._queries.keys())
        self._refused.intersection_update(self._queries)
        self._map_lists()

    def _map_lists(self) -> None:
        self._by_list = {}
        for query in self._queries.values():
            for queue, name in query.lists:
                self._by_list.setdefault(name, []).append((query, queue))

    async def _ask(self, conversation: Conversation, queries: list[PoolQuery]) -> None:
        for query in queries:
            if not query.packed:
                query.packed = conversation.pack([query.call()])
        packed = [b"".join(part for query in queries for part in query.packed)]
        await conversation.ask(packed, [partial(self._receive, query) for query in queries])

    def _receive(self, query: PoolQuery, reply: RedisReply) -> None:
        """Store a reply before any later announcement is handled."""
        began = time.thread_time()
        query.reply = reply
        query.quiet.clear()
        if isinstance(reply, ResponseError):
            return
        match reply:
            case [0, bytes(), *entries] if all(isinstance(entry, bytes) for entry in entries):
                query.reply = Said.read(reply, query.watched.queues)
                query.quiet = {queue for queue, ready in query.reply.ready.items() if not ready}
            case [1, bytes()]:
                pass
            case [2]:
                query.reply = REFUSED
            case _:
                raise Misbehaving("does not answer as Redis does")
        query.cost_seconds += time.thread_time() - began

    def _must_be_repeated(self, query: PoolQuery) -> bool:
        """Whether the query used outdated keys; they are corrected for the next attempt."""
        reply = query.reply
        if isinstance(reply, ResponseError):
            if isinstance(reply, NoPermissionError) or "WRONGTYPE" in str(reply) or "ACL" in str(reply):
                return False  # concerns this pool only
            raise reply
        if isinstance(reply, Said) or reply is REFUSED:
            return False
        record = reply[1]
        found = layout.read_layout(record)
        if found is not None and len(found.steps) * len(query.watched.queues) > MAX_LISTS:
            found = None
        if found is None and not query.has_odd_record:
            logger.warning("the layout record of %s cannot be read: the previous layout is used", query.watched.pool)
        query.has_odd_record = found is None
        query.record, query.layout, query.packed = record, found or query.layout, []
        return True

    # --- arrivals

    async def arrival(self) -> frozenset[str]:
        """See `Broker`."""
        await self._arrival.wait()
        self._arrival.clear()
        arrived, self._arrived = frozenset(self._arrived), set()
        return arrived

    def _hear(self, names: Iterable[bytes]) -> None:
        for name in names:
            for query, queue in self._by_list.get(name, ()):
                if queue in query.quiet:
                    query.quiet.discard(queue)
                    self._arrived.add(query.watched.pool)
        if self._arrived:
            self._arrival.set()

    # --- the connection

    async def close(self) -> None:
        """See `Broker`."""
        await self._hang_up()

    async def _hang_up(self) -> None:
        conversation, self._conversation = self._conversation, None
        for query in self._queries.values():
            query.quiet.clear()
            query.reading, query.rests_until = None, 0.0
            _costly.discard((id(self), query.watched.pool))
        if conversation is not None:
            await conversation.close()

    async def _connected(self) -> Conversation:
        if self._conversation is not None and not self._conversation.is_over:
            return self._conversation
        await self._hang_up()
        server = await self._server()
        conversation = self._conversation = Conversation(self._connection(server, protocol=3), self._hear)
        await conversation.open()
        loaded = await conversation.ask_one("SCRIPT", "LOAD", scripts.READ)
        if isinstance(loaded, ResponseError):
            raise loaded
        tracking = await conversation.ask_one("CLIENT", "TRACKING", "ON")
        if isinstance(tracking, ResponseError) and not self._has_said_deaf:
            self._has_said_deaf = True
            logger.warning(
                "%s refuses CLIENT TRACKING (%s): the first message of an empty queue is seen at the next reading, "
                "not at once",
                self._shown,
                printable(tracking),
            )
        return conversation

    async def _server(self) -> urls.RedisServer:
        if isinstance(self._address, urls.Sentinels):
            return await sentinels.find_master(self._address, self._connection, self._access)
        servers = self._address.servers
        self._next += 1  # after a failure the next server is tried
        return servers[(self._next - 1) % len(servers)]

    @property
    def _shown(self) -> str:
        if isinstance(self._address, urls.Sentinels):
            return "Redis behind " + ", ".join(f"sentinel {server.shown}" for server in self._address.sentinels)
        return "Redis at " + ", ".join(server.shown for server in self._address.servers)

    def _connection(self, server: urls.RedisServer, *, protocol: int) -> Any:
        return metering.build(
            server,
            protocol=protocol,
            resolver=self._resolver,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=READ_SECONDS,
        )
