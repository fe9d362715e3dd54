"""How is a worker asked for its `/status`? Bounded in time and size, without redirects, cookies and proxies."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp

from celeriac_operator.bounded import OutOfBoundsError, read_body
from celeriac_operator.decide import work

logger = logging.getLogger(__name__)

REPLY_SECONDS: Final = 2.0
"""Limit for one reply, with the connection. The worker replies from memory, but its node may be busy."""

AT_ONCE: Final = 32
"""Requests at the same time."""


class StatusClient:
    """Asks workers. Connections are not kept, because each worker is asked once in several seconds."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, url: str) -> bytes | None:
        """The body of the reply; None: there is none within the limits."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with asyncio.timeout(REPLY_SECONDS), self._session.get(url, allow_redirects=False) as response:
                return await read_body(response.content, work.REPLY_BYTES) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, OutOfBoundsError) as error:  # OSError: also the time limit
            logger.debug("%s does not reply: %s", url, error)
            return None

    async def close(self) -> None:
        """Close the connections; a second call changes nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
