"""How is one broker watched: a round of reading each second, and at once when a quiet queue gets its first message?

    round            round            round   arrival: round      round
    |--- 1 s --------|--- 1 s --------|-------|--- at least 0.1 s -|--- ...

A round that fails is followed by the next one; the broker connects anew by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from celeriac_operator.autoscaling.broker import Broker, BrokerError, Reading, Watched

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
LEAST_SECONDS = 0.1
"""Between the beginnings of two rounds, however many messages arrive."""

Readings = Mapping[str, Reading] | BrokerError
"""By pool, `namespace/name`; or why there are none."""


class Line:
    """One broker and the pools on it. `run` reads until cancelled.

    Args:
        pools: asked at each round.
        take: gets what a round found, and when the round began.
        clock: in seconds, for the figures.
    """

    def __init__(
        self,
        broker: Broker,
        pools: Callable[[], Sequence[Watched]],
        take: Callable[[Readings, float], None],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._broker = broker
        self._pools = pools
        self._take = take
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Read for ever; the connections end with it."""
        arrival: asyncio.Future[frozenset[str]] | None = None
        try:
            while True:
                began = self._clock()
                try:
                    await self.run_once()
                except Exception:
                    # A bug in one round must not stop the rounds; without figures the numbers stay as they are.
                    log.exception("a round of reading queues failed")
                spent = self._clock() - began
                await self._sleep(max(0.0, LEAST_SECONDS - spent))
                if arrival is None or arrival.done():
                    arrival = asyncio.ensure_future(self._broker.arrival())
                rest = ROUND_SECONDS - (self._clock() - began)
                await asyncio.wait([arrival], timeout=max(0.0, rest))
        finally:
            if arrival is not None:
                arrival.cancel()
            await self._broker.close()

    async def run_once(self) -> None:
        """One round."""
        now, pools = self._clock(), self._pools()
        try:
            found: Readings = await self._broker.read(pools, now=now)
        except BrokerError as error:
            found = error
        self._take(found, now)
