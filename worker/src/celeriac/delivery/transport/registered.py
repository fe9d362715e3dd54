"""Which connections use the holdings of this process?

Those with the process's identity in their transport options; kombu handles any other connection.
"""

from __future__ import annotations

from typing import Any, Final

from celeriac.delivery.holdings import Holdings

OPTION: Final = "celeriac_identity"
"""The transport option that names the holdings of this process."""

_holdings: dict[str, Holdings] = {}


def register(holdings: Holdings) -> None:
    """Let transports with this identity in their options use these holdings.

    In a process that is forked later, the option still contains the parent's identity and refers to the child's
    holdings.
    """
    _holdings[holdings.identity] = holdings


def unregister(holdings: Holdings) -> None:
    """Undo `register`."""
    _holdings.pop(holdings.identity, None)


def has_holdings(client: Any) -> bool:
    """Return whether a kombu connection uses the holdings of this process."""
    return client.transport_options.get(OPTION) in _holdings


def find(client: Any) -> Holdings:
    """Return the holdings of a kombu connection for which `has_holdings` is true."""
    return _holdings[client.transport_options[OPTION]]
