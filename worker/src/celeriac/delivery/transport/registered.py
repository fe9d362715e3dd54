"""Which transports hold messages in this process?

A connection says so by an identity in its transport options; any other connection is left to kombu.
"""

from __future__ import annotations

from typing import Any, Final

from celeriac.delivery.holdings import Holdings

OPTION: Final = "celeriac_identity"
"""The transport option that names the holdings of this process."""

_holdings: dict[str, Holdings] = {}


def register(holdings: Holdings) -> None:
    """Let transports with this identity in their options hold messages here.

    In a process that is forked off later the option still says the parent's identity, and means the child's holdings.
    """
    _holdings[holdings.identity] = holdings


def unregister(holdings: Holdings) -> None:
    """Undo `register`."""
    _holdings.pop(holdings.identity, None)


def has_holdings(client: Any) -> bool:
    """Whether a kombu connection's messages are held in this process."""
    return client.transport_options.get(OPTION) in _holdings


def find(client: Any) -> Holdings:
    """The holdings of a kombu connection for which `has_holdings` is true."""
    return _holdings[client.transport_options[OPTION]]
