"""(pure) Which hosts may the operator connect to, and which files may it open, because a pool's broker URL names them?

The author of a pool, or of the Secret that it names, chooses the URL. The operator is in another place of the network
and has files of its own, so its administrator says what a URL may name: by default any host and no file.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from celeriac_operator.autoscaling.brokers.readings import UnusableURL


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a broker URL may name."""

    hosts: tuple[str, ...] = ()
    """Host names, `*.` and a domain for all names in it, or networks such as 10.0.0.0/8 for addresses; empty: any."""
    files: frozenset[str] = frozenset()
    """Files with certificates and keys."""

    def check_host(self, host: str) -> None:
        """Check a host.

        Raises:
            UnusableURL: it is not an allowed one.
        """
        if self.hosts and not any(_matches(host.lower().rstrip("."), allowed.lower()) for allowed in self.hosts):
            raise UnusableURL(
                f"the operator may not connect to {host}: its chart's brokers.allowedHosts does not name it"
            )

    def check_file(self, option: str, path: str) -> None:
        """Check the value of an option that names a file. It need not exist.

        Raises:
            UnusableURL: it is not an allowed one.
        """
        if path not in self.files:
            raise UnusableURL(
                f"the broker URL names a file ({option}), and the operator opens only those in brokers.tlsFiles of its "
                "chart"
            )


ANYWHERE = Access()
"""Any host and no file."""


def _matches(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:]) and len(host) > len(allowed) - 1
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(allowed, strict=False)
    except ValueError:
        return host == allowed
