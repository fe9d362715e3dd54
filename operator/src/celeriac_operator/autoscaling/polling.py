"""How is one broker watched: a round of reading every 0.8 s, and at once when a quiet queue gets its first message?

    round: all pools     arrival: that pool     another: that one      round: all pools
    |---------------------|----------------------|---------------------|--- ...
    |------------------------------ 0.8 s -----------------------------|

A pool whose queues get a first message again and again is looked at ten times a second at most. A round that fails is
followed by the next one; the broker connects anew by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence

from celeriac_operator.autoscaling.connect import Broker, BrokerError, Reading, Watched

logger = logging.getLogger(__name__)

ROUND_SECONDS = 0.8
"""From beginning to beginning. With a thousand pools reading, deciding and writing take 0.2 s more, and workers are to
be asked for 1.2 s after a change at the latest."""
LEAST_SECONDS = 0.1
"""Between two looks at a pool for its arrivals, however many there are."""

Readings = Mapping[str, Reading] | BrokerError
"""By pool, `namespace/name`; or why there are none."""


class Line:
    """One broker and the pools on it. `run` reads until cancelled.

    Args:
        pools: asked at each round.
        take: gets what a round found, when it began, and which pools it was about (None: all).
        clock: in seconds, for the figures.
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
        self._arrived: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._arrival: asyncio.Future[frozenset[str]] | None = None

    async def run(self) -> None:
        """Read for ever; the connections end with it."""
        try:
            while True:
                try:
                    await self.run_once()
                except Exception:
                    # A bug in one round must not stop the rounds; without figures the numbers stay as they are.
                    logger.exception("a round of reading queues failed")
                await self._rest()
        finally:
            if self._arrival is not None:
                self._arrival.cancel()
            await self._broker.close()

    async def run_once(self) -> None:
        """One round: of all pools when it is time, else of those that have arrivals."""
        now = self._clock()
        if now >= self._due:
            only = None
            self._due = now + ROUND_SECONDS
            self._arrived.clear()
            self._looked_at = {name: at for name, at in self._looked_at.items() if now - at < LEAST_SECONDS}
        else:
            only = frozenset(name for name in self._arrived if self._may_look_at(name) <= now)
            self._arrived -= only
            self._looked_at.update(dict.fromkeys(only, now))
        try:
            found: Readings = await self._broker.read(self._pools(), now=now, only=only)
        except BrokerError as error:
            found, only = error, None  # no pool has figures now
        self._take(found, now, only)

    def _may_look_at(self, pool: str) -> float:
        return self._looked_at.get(pool, -math.inf) + LEAST_SECONDS

    async def _rest(self) -> None:
        """Until the next round: something arrives, or it is time."""
        while True:
            now = self._clock()
            until = min(self._due, *(self._may_look_at(name) for name in self._arrived), math.inf)
            if until <= now:
                return
            self._arrival = self._arrival or asyncio.ensure_future(self._broker.arrival())
            await asyncio.wait([self._arrival], timeout=until - now)
            if self._arrival.done():
                self._arrived |= self._arrival.result()
                self._arrival = None
