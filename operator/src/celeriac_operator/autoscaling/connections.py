"""Which brokers are polled, and for which pools? One poller for each broker that a pool names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from celeriac_operator.autoscaling import connect
from celeriac_operator.autoscaling.connect import Access, Broker, Resolver, UnusableURL, Watched
from celeriac_operator.autoscaling.polling import Poller, Readings

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""Longest wait for pollers to end. A server that a pool names must not delay the operator's own end."""

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
        connect: builds the reader of a broker; None: that of `connector`.
        clock: in seconds, for the figures.
    """

    def __init__(
        self,
        take: Take,
        *,
        connect: Callable[[BrokerAddress], Broker] | None,
        clock: Callable[[], float],
    ) -> None:
        self._take = take
        self._connect = connect or connector(Access())
        self._clock = clock
        self._ending: set[asyncio.Task[None]] = set()
        self._connections: dict[BrokerAddress, _Connection] = {}

    async def follow(self, wanted: Mapping[BrokerAddress, Pools]) -> None:
        """Poll these brokers for these pools from now on, and no others."""
        for address in self._connections.keys() - wanted.keys():
            self._stop(address)
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
        """Stop all pollers, and wait a short time for them to end."""
        for address in list(self._connections):
            self._stop(address)
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE_SECONDS)

    def _open(self, address: BrokerAddress) -> _Connection:
        connection = self._connections[address] = _Connection(pools={})
        try:
            found = self._connect(address)
        except UnusableURL as error:
            connection.error = str(error)
            return connection
        except Exception as error:
            # What one pool's URL causes must not stop the others. The text may quote the URL.
            logger.warning("a broker URL cannot be used: %s", type(error).__name__)
            connection.error = "the broker URL cannot be used: its TLS options, or another part of it, are not valid"
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

    def _stop(self, address: BrokerAddress) -> None:
        """Have a poller end. Nobody waits for it: its server may be slow to let go."""
        connection = self._connections.pop(address)
        if connection.task is not None:
            connection.task.cancel()
            self._ending.add(connection.task)
            connection.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a poller failed", exc_info=task.exception())


def connector(access: Access) -> Callable[[BrokerAddress], Broker]:
    """Build the function that builds readers of brokers.

    Args:
        access: what broker URLs may name.
    """
    resolver = Resolver()

    def build(address: BrokerAddress) -> Broker:
        return connect.connect(address.url, management=address.management or None, access=access, resolver=resolver)

    return build
