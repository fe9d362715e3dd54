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
import socket
import ssl
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from celeriac_operator import bounded
from celeriac_operator.autoscaling.brokers import faults, urls
from celeriac_operator.autoscaling.brokers.readings import (
    AuthenticationFailed,
    BrokerError,
    Misbehaving,
    Reading,
    Unreachable,
    Watched,
)
from celeriac_operator.autoscaling.brokers.resolving import Resolver
from celeriac_operator.autoscaling.policy import Figures

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 5.0

ANSWER: Final = bounded.Bounds(size=4 * 2**20, depth=4)
"""Bounds of the list of queues: about 40,000 of them."""

COST_PER_BYTE: Final = 20e-9
"""Seconds that reading a byte of an answer takes, roughly."""

SHARE: Final = 20
"""A long answer is asked for again only after so many times the time that it took to read."""

MOST_REST_SECONDS: Final = 8.0
"""Longest rest: figures are stale after 10 s."""
COLUMNS: Final = "name,messages_ready,messages_unacknowledged"

Queues = Mapping[str, tuple[int, int]]
"""Ready and unacknowledged messages by queue name."""


class RabbitMQBroker:
    """Reads one virtual host of a RabbitMQ; the module's docstring states the limits.

    Args:
        resolver: resolves host names.

    Raises:
        OSError, ValueError: the TLS options are not valid.
    """

    def __init__(self, address: urls.RabbitMQ, *, resolver: Resolver) -> None:
        self._address = address
        self._resolver = resolver
        self._queues: Queues = {}
        self._read_at = 0.0
        self._rests_until = float("-inf")
        self._tls = _tls_context(address.tls)
        self._next = 0
        self._session: aiohttp.ClientSession | None = None
        self._has_said_deaf = False

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        """See `Broker`. An undeclared queue has no messages. One response has all queues, so `only` is ignored."""
        del only
        if now >= self._rests_until:
            self._queues, size = await self._ask()
            self._read_at, self._rests_until = now, now + min(size * COST_PER_BYTE * SHARE, MOST_REST_SECONDS)
        return {watched.pool: reading(watched, self._queues, now=self._read_at) for watched in pools}

    async def _ask(self) -> tuple[Queues, int]:
        """The queues, and the size of the answer in bytes."""
        management = self._address.management[self._next % len(self._address.management)]
        try:
            # Here too, because aiohttp resolves no literal address, and that may be a forbidden one.
            await self._resolver.resolve(URL(management).host or "")
            return await self._list(management)
        except BrokerError:
            self._next += 1
            raise
        except Exception as error:  # whatever a server sends must not look like a bug of the operator
            self._next += 1
            logger.debug("RabbitMQ's management API at %s: %r", management, error)
            raise faults.read(error, server=f"RabbitMQ's management API at {management}") from None

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

    async def _list(self, management: str) -> tuple[Queues, int]:
        if self._session is None:
            # Redirects are not followed, the path is fixed, and a small answer cannot become a large one.
            credentials = f"{self._address.username}:{self._address.password}".encode()
            self._session = aiohttp.ClientSession(
                headers={
                    "Authorization": f"Basic {base64.b64encode(credentials).decode()}",
                    "Accept-Encoding": "identity",
                },
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=READ_SECONDS),
                connector=aiohttp.TCPConnector(ssl=self._tls, resolver=_Names(self._resolver), limit=1),
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
            if answer.status >= 500:
                raise Unreachable(f"RabbitMQ's management API at {management} cannot be read: it has a failure")
            if answer.status != 200:
                raise Misbehaving(f"RabbitMQ's management API at {management} does not answer as such a broker does")
            body = await bounded.read_body(answer.content, ANSWER.size)
            return read_queues(bounded.read_json(body, ANSWER)), len(body)


def read_queues(listed: Any) -> Queues:
    """Read the API's list of queues.

    Raises:
        Misbehaving: it is not such a list.
    """
    if not isinstance(listed, list) or not all(isinstance(queue, dict) for queue in listed):
        raise Misbehaving("does not answer as such a broker does")
    return {
        _name(queue): (_number(queue, "messages_ready"), _number(queue, "messages_unacknowledged")) for queue in listed
    }


def _name(queue: Mapping[str, Any]) -> str:
    name = queue.get("name")
    if not isinstance(name, str):
        raise Misbehaving("does not answer as such a broker does")
    return name


def _number(queue: Mapping[str, Any], key: str) -> int:
    value = queue.get(key, 0)  # a queue that was just declared has no numbers yet
    if not (isinstance(value, int) and bounded.is_count(value)):
        raise Misbehaving("does not answer as such a broker does")
    return value


def reading(watched: Watched, queues: Queues, *, now: float) -> Reading:
    """Build the reading of one pool."""
    found = {queue: queues.get(queue, (0, 0)) for queue in watched.queues}
    ready = {queue: numbers[0] for queue, numbers in found.items()}
    in_flight = sum(unacknowledged for _, unacknowledged in found.values())
    # Workers do not report here which messages run, so every delivered message counts as a busy slot.
    figures = Figures(read_at=now, backlog=sum(ready.values()), in_flight=in_flight, busy_slots=in_flight)
    return Reading(figures, ready)


class _Names(AbstractResolver):
    """Resolves names for aiohttp."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver`."""
        del family  # addresses of both families are tried
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._resolver.resolve(host)
        ]

    async def close(self) -> None:
        """See `AbstractResolver`."""


def _tls_context(options: urls.Tls) -> ssl.SSLContext | bool:
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
