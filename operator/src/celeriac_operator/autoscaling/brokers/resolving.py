"""How is a host name resolved without one pool's name delaying another's?

The resolver of the C library blocks, up to 5 seconds, twice, for each search domain. Python runs it in an executor with
a handful of threads that everybody shares, so a few names that nobody answers for would keep all others from being
resolved. Here each name has a thread of its own; a name that was slow before may use a small share of them only, and an
answer that was once found is used while a new one is late.

Link-local addresses are never used: cloud providers serve a machine's credentials there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

THREADS: Final = 96
"""Most names that are being resolved at the same time."""

SLOW_THREADS: Final = 16
"""Most of them that were slow before."""

SLOW_SECONDS: Final = 2.0
"""A name that takes longer is slow."""

FRESH_SECONDS: Final = 5.0
"""How long an answer is used before the name is resolved again; brokers move to other addresses."""

LATE_SECONDS: Final = 0.5
"""How long to wait for a new answer while there is an older one."""

REMEMBERED: Final = 4096
"""Names that are remembered, the latest first to stay."""

METADATA_V6: Final = ipaddress.ip_address("fd00:ec2::254")
"""Amazon's metadata service in IPv6, the only one outside the link-local addresses."""

Lookup = Callable[[str], Sequence[str]]
"""Returns the addresses of a name; raises OSError."""


class ForbiddenAddressError(OSError):
    """An address that no broker can have."""


class BusyError(OSError):
    """Too many names are being resolved."""


@dataclass(kw_only=True)
class _Name:
    addresses: tuple[str, ...] = ()
    found_at: float = -1e9
    is_slow: bool = False
    running: asyncio.Future[tuple[str, ...]] | None = None


class Resolver:
    """Resolves names. Used in one event loop.

    Args:
        lookup: resolves one name, and may block.
        clock: in seconds.
    """

    def __init__(self, lookup: Lookup | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup or _ask_the_system
        self._clock = clock
        self._names: OrderedDict[str, _Name] = OrderedDict()

    async def resolve(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, in the order in which to try them.

        Raises:
            OSError: it has none, it has a forbidden one, or it is not resolved now because too many others are.
        """
        literal = _literal(host)
        if literal is not None:
            return _allowed((literal,))
        name = self._remember(host)
        if self._clock() - name.found_at < FRESH_SECONDS:
            return _allowed(name.addresses)
        running = name.running if name.running is not None and not name.running.done() else self._begin(host, name)
        # Shielded: the thread goes on for others when one caller gives up.
        if not name.addresses:
            return _allowed(await asyncio.shield(running))
        await asyncio.wait([running], timeout=LATE_SECONDS)
        return _allowed(name.addresses)

    def _remember(self, host: str) -> _Name:
        name = self._names.setdefault(host, _Name())
        self._names.move_to_end(host)
        while len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        return name

    def _begin(self, host: str, name: _Name) -> asyncio.Future[tuple[str, ...]]:
        busy = [other for other in self._names.values() if other.running is not None and not other.running.done()]
        if len(busy) >= THREADS or (name.is_slow and sum(other.is_slow for other in busy) >= SLOW_THREADS):
            raise BusyError("too many names are being resolved")
        loop, began = asyncio.get_running_loop(), self._clock()
        name.running = running = loop.create_future()
        running.add_done_callback(_mark_retrieved)
        slow = loop.call_later(SLOW_SECONDS, _mark_slow, name)

        def end(found: tuple[str, ...] | OSError) -> None:
            slow.cancel()
            name.is_slow = self._clock() - began > SLOW_SECONDS
            if running.done():
                return
            if isinstance(found, OSError):
                running.set_exception(found)
                return
            name.addresses, name.found_at = found, self._clock()
            running.set_result(found)

        def look_up() -> None:
            found: tuple[str, ...] | OSError
            try:
                found = tuple(dict.fromkeys(self._lookup(host)))
            except (OSError, UnicodeError) as error:
                found = error if isinstance(error, OSError) else OSError("not a host name")
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(end, found)

        # A daemon: a name that nobody answers for must not delay the end of the operator.
        threading.Thread(target=look_up, name="celeriac-resolver", daemon=True).start()
        return running


def _mark_slow(name: _Name) -> None:
    name.is_slow = True


def _mark_retrieved(ended: asyncio.Future[tuple[str, ...]]) -> None:
    if not ended.cancelled():
        ended.exception()


def _ask_the_system(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _allowed(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for text in addresses:
        address = ipaddress.ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or address.is_multicast or address == METADATA_V6:
            raise ForbiddenAddressError(f"{text} is not an address that a broker can have")
    return addresses
