"""How are the figures of queues in RabbitMQ read?

One request to the management API lists the queues of a virtual host with their ready and unacknowledged messages.
Priorities are inside a queue.

**Limits.** RabbitMQ updates these numbers every 5 seconds (`collect_statistics_interval`), so they may be that much
older than the reading. It reports no publishing times and announces no arrivals. Workers report busy slots and runtimes
on Redis only: on RabbitMQ every unacknowledged message counts as a busy slot, including prefetched ones, and a task
that is acknowledged before it runs does not count. The user needs the tag `management`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.brokers.readings import (
    AuthenticationFailed,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.policy import Figures

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 5.0
COLUMNS: Final = "name,messages_ready,messages_unacknowledged"

Queues = Mapping[str, tuple[int, int]]
"""Ready and unacknowledged messages by queue name."""


class RabbitMQBroker:
    """Reads one virtual host of a RabbitMQ; the module's docstring states the limits.

    Raises:
        UnusableURL: the URL names files that do not exist.
    """

    def __init__(self, address: urls.RabbitMQ) -> None:
        self._address = address
        self._tls = _tls_context(address.tls)
        self._next = 0
        self._session: aiohttp.ClientSession | None = None
        self._has_said_deaf = False

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        """See `Broker`. An undeclared queue has no messages. One response has all queues, so `only` is ignored."""
        del only
        management = self._address.management[self._next % len(self._address.management)]
        try:
            queues = await self._list(management)
        except (AuthenticationFailed, Unreachable):
            self._next += 1
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            self._next += 1
            reason = " ".join(str(error).split()).replace(self._address.password, "***") or type(error).__name__
            raise Unreachable(f"RabbitMQ's management API at {management} cannot be read: {reason}") from None
        return {watched.pool: reading(watched, queues, now=now) for watched in pools}

    async def arrival(self) -> frozenset[str]:
        """See `Broker`. RabbitMQ announces no arrivals."""
        if not self._has_said_deaf:
            self._has_said_deaf = True
            logger.info(
                "RabbitMQ announces no arrivals: the first message of an empty queue is seen at the next reading"
            )
        await asyncio.Event().wait()
        raise AssertionError  # the event is never set

    async def close(self) -> None:
        """See `Broker`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _list(self, management: str) -> Queues:
        if self._session is None:
            credentials = f"{self._address.username}:{self._address.password}".encode()
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Basic {base64.b64encode(credentials).decode()}"},
                timeout=aiohttp.ClientTimeout(total=READ_SECONDS),
                connector=aiohttp.TCPConnector(ssl=self._tls),
            )
        virtual_host = quote(self._address.virtual_host, safe="")
        # Already encoded: the %2F of the virtual host / must be kept.
        url = URL(f"{management}/api/queues/{virtual_host}?columns={COLUMNS}", encoded=True)
        async with self._session.get(url, allow_redirects=False) as answer:
            if answer.status in {401, 403}:
                raise AuthenticationFailed(
                    f"RabbitMQ's management API at {management} refuses the broker URL's user: wrong password, "
                    f"no access to the virtual host {self._address.virtual_host}, or not tagged management"
                )
            if answer.status == 404:
                raise Unreachable(f"RabbitMQ at {management} has no virtual host {self._address.virtual_host}")
            if answer.status != 200:
                raise Unreachable(f"RabbitMQ's management API at {management} answers {answer.status}")
            return read_queues(await answer.json())


def read_queues(listed: Any) -> Queues:
    """Read the API's list of queues.

    Raises:
        ValueError, KeyError, TypeError: it is not such a list.
    """
    # A queue that was just declared has no numbers yet.
    return {
        queue["name"]: (int(queue.get("messages_ready", 0)), int(queue.get("messages_unacknowledged", 0)))
        for queue in listed
    }


def reading(watched: Watched, queues: Queues, *, now: float) -> Reading:
    """Build the reading of one pool."""
    found = {queue: queues.get(queue, (0, 0)) for queue in watched.queues}
    ready = {queue: numbers[0] for queue, numbers in found.items()}
    in_flight = sum(unacknowledged for _, unacknowledged in found.values())
    # Workers do not report here which messages run, so every delivered message counts as a busy slot.
    figures = Figures(read_at=now, backlog=sum(ready.values()), in_flight=in_flight, busy_slots=in_flight)
    return Reading(figures, ready)


def _tls_context(options: urls.Tls) -> ssl.SSLContext | bool:
    for name in urls.TLS_PATHS:
        if name in options and not Path(str(options[name])).exists():
            raise UnusableURL(f"the broker URL names {options[name]}, which does not exist in the operator's container")
    if not options:
        return True  # the system's certificate authorities
    context = ssl.create_default_context(
        cafile=_text(options, "ssl_ca_certs"),
        capath=_text(options, "ssl_ca_path"),
        cadata=_text(options, "ssl_ca_data"),
    )
    if options.get("ssl_cert_reqs") == "none" or options.get("ssl_check_hostname") is False:
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    certificate = _text(options, "ssl_certfile")
    if certificate is not None:
        context.load_cert_chain(certificate, _text(options, "ssl_keyfile"), _text(options, "ssl_password"))
    return context


def _text(options: urls.Tls, name: str) -> str | None:
    value = options.get(name)
    return str(value) if value is not None else None
