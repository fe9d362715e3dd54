"""(pure) The addresses of one cluster, and which ones are free on this machine.

The cluster lives in a network namespace of its own, joined to the machine by one veth pair. Inside there is a bridge
for the pods and no route to anywhere else: nothing can be sent off the machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from localcluster.errors import LocalClusterError

# A route as wide as a VPN's 10.0.0.0/8 does not matter: ours is narrower, so it wins. From this length on it matters.
NARROW = 16


@dataclass(frozen=True)
class Network:
    number: int  # 0 to 255

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def services(self) -> str:
        return f"10.96.{self.number}.0/24"

    @property
    def node(self) -> str:
        """The bridge's address: the node's, the API server's, the kubelet's and every pod's gateway."""
        return f"10.244.{self.number}.1"

    @property
    def last_pod(self) -> str:
        return f"10.244.{self.number}.250"

    @property
    def machine(self) -> str:
        """This machine's end of the veth pair: it is one more address beside the pods."""
        return f"10.244.{self.number}.254"

    @property
    def api_service(self) -> str:
        return f"10.96.{self.number}.1"

    @property
    def dns_service(self) -> str:
        return f"10.96.{self.number}.10"

    @property
    def server(self) -> str:
        return f"https://{self.node}:6443"


def choose(used: Iterable[str]) -> Network:
    """The first network that overlaps none of these (addresses of interfaces and destinations of routes)."""
    taken = [
        theirs
        for text in used
        if (theirs := ipaddress.ip_network(text, strict=False)).version == 4 and theirs.prefixlen >= NARROW
    ]
    for number in range(256):
        network = Network(number)
        ours = (ipaddress.ip_network(network.pods), ipaddress.ip_network(network.services))
        if not any(mine.overlaps(theirs) for mine in ours for theirs in taken):
            return network
    raise LocalClusterError("no free network: 10.244.0.0/16 and 10.96.0.0/16 are all in use on this machine")
