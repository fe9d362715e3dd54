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
import contextlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from celeriac_operator.autoscaling.brokers import layout, scripts, urls
from celeriac_operator.autoscaling.brokers.conversation import Conversation, RedisReply
from celeriac_operator.autoscaling.brokers.layout import Layout, Workers
from celeriac_operator.autoscaling.brokers.readings import (
    AuthenticationFailed,
    BrokerError,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.policy import Figures

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
"""Limit of one reading, including the connect: half of the age at which figures become stale."""


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

    Raises:
        UnusableURL: the URL names files that do not exist.
    """

    def __init__(self, address: urls.Redis | urls.Sentinels) -> None:
        servers = address.servers if isinstance(address, urls.Redis) else address.sentinels
        for path in _files(servers):
            if not Path(path).exists():
                raise UnusableURL(f"the broker URL names {path}, which does not exist in the operator's container")
        self._address = address
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
        except BrokerError:
            await self._hang_up()
            raise
        except TimeoutError:
            await self._hang_up()
            raise Unreachable(f"{self._shown} has not responded within {READ_SECONDS:g} s") from None
        except (RedisError, OSError, ValueError) as error:  # ValueError: not a reply of the script
            await self._hang_up()
            raise self._understood(error) from None

    async def _read(self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None) -> dict[str, Reading]:
        conversation = await self._connected()
        if only is None:
            self._follow(pools)
        chosen = {name: query for name, query in self._queries.items() if only is None or name in only}
        queries = list(chosen.values())
        while queries:
            await self._ask(conversation, queries)
            queries = [query for query in queries if self._must_be_repeated(query)]
            if queries:
                self._map_lists()
        readings = {}
        for name, query in chosen.items():
            if not isinstance(query.reply, ResponseError):
                self._refused.discard(name)
                readings[name] = _reading(query, now=now)
            elif name not in self._refused:
                self._refused.add(name)
                logger.warning("%s refuses to show the queues of %s: %s", self._shown, name, query.reply)
        return readings

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
        query.reply = reply
        if isinstance(reply, ResponseError) or reply[0]:
            query.quiet.clear()
            return
        query.reply = Said.read(reply, query.watched.queues)
        query.quiet = {queue for queue, ready in query.reply.ready.items() if not ready}

    def _must_be_repeated(self, query: PoolQuery) -> bool:
        """Whether the query used outdated keys; they are corrected for the next attempt."""
        reply = query.reply
        if isinstance(reply, ResponseError):
            if isinstance(reply, NoPermissionError) or "WRONGTYPE" in str(reply) or "ACL" in str(reply):
                return False  # concerns this pool only
            raise reply
        if isinstance(reply, Said):
            return False
        record = reply[1]
        found = layout.read_layout(record)
        if found is None:
            logger.warning("the layout record of %s cannot be read: the previous layout is used", query.watched.pool)
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
        if conversation is not None:
            await conversation.close()

    async def _connected(self) -> Conversation:
        if self._conversation is not None and not self._conversation.is_over:
            return self._conversation
        await self._hang_up()
        server = await self._server()
        conversation = self._conversation = Conversation(_connection(server, protocol=3), self._hear)
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
                tracking,
            )
        return conversation

    async def _server(self) -> urls.RedisServer:
        if isinstance(self._address, urls.Sentinels):
            return await _find_master(self._address)
        servers = self._address.servers
        self._next += 1  # after a failure the next server is tried
        return servers[(self._next - 1) % len(servers)]

    @property
    def _shown(self) -> str:
        if isinstance(self._address, urls.Sentinels):
            return "Redis behind " + ", ".join(f"sentinel {server.shown}" for server in self._address.sentinels)
        return "Redis at " + ", ".join(server.shown for server in self._address.servers)

    def _understood(self, error: Exception) -> BrokerError:
        if isinstance(error, AuthenticationError):
            return AuthenticationFailed(f"{self._shown} refuses the user or the password of the broker URL")
        return Unreachable(f"{self._shown} cannot be read: {self._scrubbed(str(error)) or type(error).__name__}")

    def _scrubbed(self, text: str) -> str:
        servers = self._address.servers if isinstance(self._address, urls.Redis) else self._address.sentinels
        for server in servers:
            if server.password:
                text = text.replace(server.password, "***")
        return " ".join(text.split())


@dataclass(frozen=True)
class Said:
    """A parsed reply of the script."""

    held: int
    ready: dict[str, int]
    oldest: float | None
    workers: Workers

    @classmethod
    def read(cls, reply: list[Any], queues: Sequence[str]) -> Said:
        """Read the script's reply."""
        _, text, *entries = reply
        parts = iter(text.decode().split(" "))
        now = int(next(parts)) / 1000
        held, ready, oldest = 0, {}, None
        # Parts of a queue: held, ready, and one with a bar for each list that is not empty.
        numbers: list[int] = []
        for part in parts:
            if "|" not in part:
                numbers.append(int(part))
                continue
            waited = layout.waited_seconds(*part.split("|"), now=now)
            if waited is not None:
                oldest = max(waited, oldest or 0.0)
        for queue, held_here, ready_here in zip(queues, numbers[::2], numbers[1::2], strict=True):
            held += held_here
            ready[queue] = ready_here
        return cls(held, ready, oldest, layout.add_up(entries))


def _reading(query: PoolQuery, *, now: float) -> Reading:
    said: Said = query.reply
    workers = said.workers
    # A message with a later ETA needs no slot yet, but its worker must stay: such messages count as one at least.
    in_flight = max(said.held - workers.scheduled, min(said.held, 1))
    figures = Figures(
        read_at=now,
        backlog=sum(said.ready.values()),
        in_flight=in_flight,
        # A report is up to a quarter of a lease old, but the held messages are current, and they fill idle slots.
        busy_slots=max(workers.busy, min(workers.slots, in_flight)),
        oldest_age_seconds=said.oldest,
        service_seconds=workers.service_seconds,
    )
    return Reading(figures, said.ready)


def _connection(server: urls.RedisServer, *, protocol: int) -> Connection:
    kind: Any = Connection if server.tls is None else SSLConnection
    made: Connection = kind(
        host=server.host,
        port=server.port,
        db=server.database,
        username=server.username,
        password=server.password,
        socket_timeout=READ_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        protocol=protocol,
        driver_info=None,
        **(server.tls or {}),
    )
    return made


def _files(servers: Iterable[urls.RedisServer]) -> Iterable[str]:
    return (str(server.tls[name]) for server in servers if server.tls for name in urls.TLS_PATHS if name in server.tls)


async def _find_master(address: urls.Sentinels) -> urls.RedisServer:
    """Ask the sentinels one after the other where the master is.

    Raises:
        Unreachable: no sentinel knows.
    """
    reasons = []
    first = address.sentinels[0]
    for sentinel in address.sentinels:
        plain = urls.RedisServer(host=sentinel.host, port=sentinel.port)
        connection: Any = _connection(plain, protocol=2)
        try:
            await connection.connect()
            await connection.send_command("SENTINEL", "MASTERS")
            masters = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in await connection.read_response()]
        except (RedisError, OSError) as error:
            reasons.append(f"{sentinel.shown}: {error}")
            continue
        finally:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
        found = _choose(masters, address.master_name)
        if isinstance(found, str):
            reasons.append(f"{sentinel.shown}: {found}")
            continue
        return urls.RedisServer(
            host=found[0],
            port=found[1],
            database=first.database,
            username=first.username,
            password=first.password,
            tls=first.tls,
        )
    raise Unreachable(f"no sentinel knows a master ({'; '.join(reasons)})")


def _choose(masters: list[dict[bytes, bytes]], name: str | None) -> tuple[str, int] | str:
    """Address of the master; or why this sentinel does not give it."""
    names = sorted(master[b"name"].decode() for master in masters)
    wanted = [master for master in masters if name in {None, master[b"name"].decode()}]
    if len(wanted) > 1:
        return f"watches {', '.join(names)}: set ?master_name= in the broker URL"
    if not wanted:
        return f"watches {', '.join(names) or 'no master'}" + (f", and not {name}" if name else "")
    flags = wanted[0][b"flags"].decode().split(",")
    if {"s_down", "o_down"}.intersection(flags):
        return "the master is down"
    return wanted[0][b"ip"].decode(), int(wanted[0][b"port"])
