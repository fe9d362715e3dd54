"""When is a broker read? Pools with autoscaling every 0.8 s, and at once when an empty queue gets its first message.

    round: all of them   arrival: that pool     another: that one      round: all of them
    |---------------------|----------------------|---------------------|--- ...
    |------------------------------ 0.8 s -----------------------------|

Every 10 s, and when the pools have changed, a round reads the queues of all other pools too. A pool whose queues become
empty and get a first message repeatedly is read ten times a second at most. After a failed round the next one follows;
the broker's reader reconnects by itself. A server that does not behave as a broker is left alone for longer after each
attempt.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence

from celeriac_operator.autoscaling.connect import Broker, BrokerError, Misbehaving, Reading, Watched

logger = logging.getLogger(__name__)

ROUND_SECONDS = 0.8
"""Time from the beginning of a round to that of the next. With 1000 pools reading, deciding and writing take 0.2 s
more, and a change must lead to a new number of workers within 1.2 s."""
REPORT_SECONDS = 10.0
"""Time between two reads of the pools without autoscaling, whose queues are only reported."""
LEAST_SECONDS = 0.1
"""Least time between two reads of a pool because of arrivals."""

MISBEHAVED_SECONDS = (5.0, 60.0)
"""Pause after a round in which the server did not behave as a broker; it doubles up to the second value."""

Readings = Mapping[str, Reading] | BrokerError
"""Readings by pool, `namespace/name`; or the error because of which there are none."""


class Poller:
    """Polls one broker for the pools on it. `run` reads until cancelled.

    Args:
        pools: returns the pools; called at each round.
        take: called with the readings of a round, when it began, and the pools it covered (None: all).
        clock: returns seconds, for the age of the figures.
    """

    def __init__(
        self,
        broker: Broker,
        pools: Callable[[], Sequence[Watched]],
        take: Callable[[Readings, float, frozenset[str] | None], None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._pools = pools
        self._take = take
        self._clock = clock
        self._due = clock()
        self._all_due = self._due
        self._followed: list[Watched] = []
        self._arrived: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._pause = 0.0
        self._arrival: asyncio.Future[frozenset[str]] | None = None

    async def run(self) -> None:
        """Read until cancelled; then close the connections."""
        try:
            while True:
                try:
                    await self.run_once()
                except Exception:
                    # A bug in one round must not stop the next ones; without figures the numbers are not changed.
                    logger.exception("a round of reading queues failed")
                await self._rest()
        finally:
            if self._arrival is not None:
                self._arrival.cancel()
            await self._broker.close()

    async def run_once(self) -> None:
        """Read all pools, or those with autoscaling, if a round is due; else the pools that have arrivals."""
        now, pools = self._clock(), self._pools()
        only: frozenset[str] | None
        if now >= self._due:
            is_full = now >= self._all_due or list(pools) != self._followed
            only = None if is_full else frozenset(watched.pool for watched in pools if watched.is_scaled)
            self._due = now + ROUND_SECONDS
            if is_full:
                self._all_due, self._followed = now + REPORT_SECONDS, list(pools)
            self._arrived.clear()
            self._looked_at = {name: at for name, at in self._looked_at.items() if now - at < LEAST_SECONDS}
        else:
            only = frozenset(name for name in self._arrived if self._may_look_at(name) <= now)
            self._arrived -= only
            self._looked_at.update(dict.fromkeys(only, now))
        if only is not None and not only:
            return
        try:
            found: Readings = await self._broker.read(pools, now=now, only=only)
            self._pause = 0.0
        except BrokerError as error:
            found, only = error, None  # no pool has figures
            if isinstance(error, Misbehaving):
                shortest, longest = MISBEHAVED_SECONDS
                self._pause = min(max(2 * self._pause, shortest), longest)
                self._due = self._clock() + self._pause
                self._arrived.clear()
        self._take(found, now, only)

    def _may_look_at(self, pool: str) -> float:
        return self._looked_at.get(pool, -math.inf) + LEAST_SECONDS

    async def _rest(self) -> None:
        """Wait for the next round: until it is due, or until something arrives."""
        while True:
            now = self._clock()
            until = min(self._due, *(self._may_look_at(name) for name in self._arrived), math.inf)
            if until <= now:
                return
            self._arrival = self._arrival or asyncio.ensure_future(self._broker.arrival())
            await asyncio.wait([self._arrival], timeout=until - now)
            if self._arrival.done():
                scaled = {watched.pool for watched in self._pools() if watched.is_scaled}
                self._arrived |= self._arrival.result() & scaled
                self._arrival = None
