"""How is one Redis connected to, so that whatever it sends is bounded?

A server that a pool names may send an answer without an end. redis-py reads an answer to its end before it returns it,
and the handshake too, so the stream that it reads from is replaced by one that counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection

from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.brokers.readings import Misbehaving
from celeriac_operator.autoscaling.brokers.resolving import Resolver

HANDSHAKE: Final = 2**16
"""Most bytes that a server may send until its connection is ready."""

ITEM: Final = 32
"""Bytes that each item of an answer counts in addition to its own: small items cost time too."""


class MeteredStream:
    """What the parser reads from. `allow` sets how much may be read until the next call."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._left = HANDSHAKE
        self.spent = 0
        """Bytes so far, each item counted as `ITEM` more."""

    def allow(self, size: int) -> None:
        """Allow this many bytes from now on."""
        self._left = size

    async def readline(self) -> bytes:
        """Read a line."""
        self._spend(ITEM)
        line = await self._stream.readline()
        self._spend(len(line))
        return line

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes."""
        self._spend(n)
        return await self._stream.readexactly(n)

    def at_eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.at_eof()

    @property
    def _buffer(self) -> Any:
        # redis-py looks here for unread bytes.
        return self._stream._buffer  # type: ignore[attr-defined]  # no public way

    def _spend(self, size: int) -> None:
        if size > self._left:
            raise Misbehaving("sends more than an answer to the operator can have")
        self._left -= size
        self.spent += size


class _Metered(Connection):
    """A connection to a host that is resolved by `Resolver` and read through a `MeteredStream`."""

    def __init__(self, resolver: Resolver, **options: Any) -> None:
        super().__init__(**options)
        self._resolver = resolver
        self._address = self.host

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = {**super()._connection_arguments(), "host": self._address}
        # The certificate must be the host's, not the address's.
        return {**arguments, "server_hostname": self.host} if arguments.get("ssl") else arguments

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            addresses = await self._resolver.resolve(self.host)
        *others, last = addresses
        for self._address in others:
            with contextlib.suppress(OSError, TimeoutError):
                await self._connect_address()
                return
        self._address = last
        await self._connect_address()

    async def _connect_address(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]  # no types there
        self._reader: Any = MeteredStream(self._reader)

    @property
    def metered(self) -> MeteredStream:
        """The stream of the open connection."""
        stream: MeteredStream = self._reader
        return stream


class _MeteredTls(_Metered, SSLConnection):
    pass


def build(
    server: urls.RedisServer, *, protocol: int, resolver: Resolver, connect_seconds: float, read_seconds: float
) -> _Metered:
    """Build a connection; `connect` of it connects."""
    kind = _Metered if server.tls is None else _MeteredTls
    return kind(
        resolver,
        host=server.host,
        port=server.port,
        db=server.database,
        username=server.username,
        password=server.password,
        socket_timeout=read_seconds,
        socket_connect_timeout=connect_seconds,
        socket_keepalive=True,
        protocol=protocol,
        driver_info=None,
        # Maintenance notifications stay off: with them, a server could send the operator to another address.
        maint_notifications_config=None,
        **(server.tls or {}),
    )
