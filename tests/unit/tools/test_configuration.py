"""What the programs of a node are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomllib

from localcluster import certificates, configuration, flags, manifests
from localcluster.network import Network

HOME = Path("/home/x/cluster")
NET = Network(3)


def test_containerd_keeps_everything_in_the_cluster_home() -> None:
    config = tomllib.loads(configuration.containerd(HOME, "localhost/pause:1"))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["root"] == "/home/x/cluster/containerd"
    assert config["grpc"]["address"] == "/home/x/cluster/containerd.sock"
    assert cri["sandbox_image"] == "localhost/pause:1"
    assert cri["restrict_oom_score_adj"] is True


def test_pods_get_addresses_that_the_machine_does_not_use() -> None:
    bridge = json.loads(configuration.cni(NET, HOME))["plugins"][0]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24", "rangeEnd": "10.244.3.250"}]]
    assert bridge["ipMasq"] is False
    assert NET.machine == "10.244.3.254"


def test_the_kubelet_asks_who_it_is_talking_to() -> None:
    config = json.loads(configuration.kubelet(NET, HOME))
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["cgroupRoot"] == f"/{configuration.home_id(HOME)}"


def test_two_homes_have_different_names_for_what_they_own() -> None:
    names = {configuration.home_id(HOME / text) for text in ("a", "b", "c")}
    assert len(names) == 3
    assert max(map(len, names)) <= 15  # the longest name of a network interface


def test_rbac_and_audit_are_on_wherever_there_is_an_api_server() -> None:
    files = flags.Files(HOME)
    alone = flags.apiserver_alone(files, port=1, tokens=HOME / "t", service_accounts=False)
    of_node = flags.apiserver_of_node(files, address=NET.node, services=NET.services)
    assert "--authorization-mode=RBAC" in alone
    assert "--authorization-mode=Node,RBAC" in of_node
    for arguments in (alone, of_node):
        assert f"--audit-log-path={HOME}/audit.log" in arguments
        assert not any(it.startswith("--anonymous-auth=true") for it in arguments)
    assert {rule["level"] for rule in flags.AUDIT_POLICY["rules"]} == {"Metadata"}


def test_a_lonely_api_server_listens_on_loopback_only() -> None:
    arguments = flags.apiserver_alone(flags.Files(HOME), port=1234, tokens=HOME / "t", service_accounts=True)
    assert "--bind-address=127.0.0.1" in arguments
    assert not any(it.startswith("--disable-admission-plugins") for it in arguments)


def test_dns_answers_for_the_cluster_before_it_denies_everything() -> None:
    objects = manifests.dns(NET, "localhost/coredns:1")
    corefile = next(it["data"]["Corefile"] for it in objects if it["kind"] == "ConfigMap")
    cluster, others = corefile.split("# All other names", 1)
    assert "kubernetes cluster.local" in cluster
    assert "template" not in cluster
    assert "rcode NXDOMAIN" in others
    service = next(it for it in objects if it["kind"] == "Service")
    assert service["spec"]["clusterIP"] == NET.dns_service


def test_dns_and_workers_keep_off_fake_nodes() -> None:
    deployment = next(it for it in manifests.dns(NET, "x") if it["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "local"}
    assert manifests.fake_node(2)["spec"]["taints"][0]["effect"] == "NoSchedule"


@pytest.mark.parametrize("line", ["basicConstraints=critical,CA:FALSE", "authorityKeyIdentifier=keyid"])
def test_leaf_certificates_have_what_strict_clients_want(line: str) -> None:
    assert line in certificates.extensions(["DNS:localhost"])


def test_a_kubeconfig_can_be_copied_anywhere() -> None:
    config = json.loads(certificates.kubeconfig("https://h:1", b"ca", certificates.client_user(b"crt", b"key")))
    assert config["clusters"][0]["cluster"] == {"server": "https://h:1", "certificate-authority-data": "Y2E="}
    assert config["users"][0]["user"] == {"client-certificate-data": "Y3J0", "client-key-data": "a2V5"}


def test_private_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = certificates.write_private(tmp_path / "kubeconfig", "secret")
    assert path.stat().st_mode & 0o777 == 0o600
