"""Which brokers are polled, and for which pools? One poller for each broker that a pool names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from celeriac_operator.autoscaling import connect
from celeriac_operator.autoscaling.connect import Broker, UnusableURL, Watched
from celeriac_operator.autoscaling.polling import Poller, Readings

Pools = Mapping[str, Watched]
"""Pools by `namespace/name`."""


@dataclass(frozen=True)
class BrokerAddress:
    """URLs with which a broker is read."""

    url: str = field(repr=False)
    management: str
    """URL of RabbitMQ's management API; empty: on the broker's host."""


@dataclass(kw_only=True)
class _Connection:
    """One broker: its poller's task, or why there is none."""

    pools: Pools
    task: asyncio.Task[None] | None = None
    error: str = ""


Take = Callable[[BrokerAddress, Pools, Readings, float, frozenset[str] | None], None]
"""Called with the broker, its pools, the readings of a round, when it began, and the pools it covered (None: all)."""


class Pollers:
    """The pollers of all brokers.

    Args:
        take: called with the readings of each round.
        connect: builds the reader of a broker.
        clock: in seconds, for the figures.
    """

    def __init__(
        self, take: Take, *, connect: Callable[[BrokerAddress], Broker] | None, clock: Callable[[], float]
    ) -> None:
        self._take = take
        self._connect = connect or _connect
        self._clock = clock
        self._connections: dict[BrokerAddress, _Connection] = {}

    async def follow(self, wanted: Mapping[BrokerAddress, Pools]) -> None:
        """Poll these brokers for these pools from now on, and no others."""
        for address in self._connections.keys() - wanted.keys():
            await self._stop(address)
        for address, pools in wanted.items():
            connection = self._connections.get(address) or self._open(address)
            connection.pools = pools

    def unusable(self) -> Iterator[tuple[str, str]]:
        """Pools whose broker cannot be polled, each with the reason."""
        for connection in self._connections.values():
            if connection.error:
                for name in connection.pools:
                    yield name, connection.error

    async def close(self) -> None:
        """Stop all pollers."""
        for address in list(self._connections):
            await self._stop(address)

    def _open(self, address: BrokerAddress) -> _Connection:
        connection = self._connections[address] = _Connection(pools={})
        try:
            found = self._connect(address)
        except UnusableURL as error:
            connection.error = str(error)
            return connection
        poller = Poller(
            found,
            lambda: tuple(connection.pools.values()),
            partial(self._pass_on, address, connection),
            clock=self._clock,
        )
        connection.task = asyncio.create_task(poller.run(), name="celeriac-broker")
        return connection

    def _pass_on(
        self,
        address: BrokerAddress,
        connection: _Connection,
        readings: Readings,
        at: float,
        only: frozenset[str] | None,
    ) -> None:
        self._take(address, connection.pools, readings, at, only)

    async def _stop(self, address: BrokerAddress) -> None:
        connection = self._connections.pop(address)
        if connection.task is not None:
            connection.task.cancel()
            await asyncio.gather(connection.task, return_exceptions=True)


def _connect(address: BrokerAddress) -> Broker:
    return connect.connect(address.url, management=address.management or None)
