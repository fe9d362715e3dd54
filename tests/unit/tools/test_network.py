"""Addresses are free ones, whatever else the machine is connected to."""

from __future__ import annotations

import pytest

from localcluster import network
from localcluster.errors import LocalClusterError


@pytest.mark.parametrize(
    ("used", "number"),
    [
        pytest.param([], 0, id="nothing is used"),
        pytest.param(["192.0.2.2/24", "127.0.0.1/8"], 0, id="other networks do not matter"),
        pytest.param(["10.244.0.254/24"], 1, id="another cluster has the first pod network"),
        pytest.param(["10.96.0.0/24"], 1, id="another cluster has the first service network"),
        pytest.param(["10.244.0.0/24", "10.96.1.0/24"], 2, id="one network is taken by each"),
        pytest.param(["10.0.0.0/8"], 0, id="a route as wide as a VPN's does not matter"),
        pytest.param(["10.244.0.7"], 1, id="a single address"),
        pytest.param(["fd00::1/64"], 0, id="IPv6 is another world"),
    ],
)
def test_the_first_free_network_is_chosen(used: list[str], number: int) -> None:
    assert network.choose(used).number == number


def test_without_a_free_network_the_error_names_them() -> None:
    with pytest.raises(LocalClusterError, match=r"10\.244\.0\.0/16"):
        network.choose(["10.244.0.0/16"])


def test_all_addresses_of_a_network_lie_in_it_and_differ() -> None:
    net = network.Network(7)
    addresses = [net.node, net.last_pod, net.machine, net.api_service, net.dns_service]
    assert len(set(addresses)) == len(addresses)
    assert [text.rsplit(".", 1)[0] for text in addresses] == ["10.244.7"] * 3 + ["10.96.7"] * 2
    assert net.server == "https://10.244.7.1:6443"
