"""(pure) The command lines of the Kubernetes programs, with the reasons for what is unusual in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# One line for every request, when it is answered; never its body, which may hold secrets.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Files:
    """Where the files of one control plane are, below its home."""

    home: Path

    @property
    def pki(self) -> Path:
        return self.home / "pki"

    @property
    def conf(self) -> Path:
        return self.home / "conf"

    @property
    def logs(self) -> Path:
        return self.home / "log"

    @property
    def audit_log(self) -> Path:
        return self.home / "audit.log"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.home / "kubeconfig"

    @property
    def etcd_socket(self) -> str:
        """etcd listens on a socket: no port can be taken. Its path may have 107 characters at most."""
        return f"unix://{self.home / 'etcd.sock'}"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def kubeconfig_of(self, name: str) -> Path:
        return self.conf / f"{name}.kubeconfig"


def etcd(files: Files) -> list[str]:
    # One member that nobody joins: the addresses it advertises are never used.
    nowhere = "http://127.0.0.1:0"
    return [
        f"--data-dir={files.home / 'etcd'}",
        f"--listen-client-urls={files.etcd_socket}",
        f"--advertise-client-urls={nowhere}",
        f"--listen-peer-urls={nowhere}",
        f"--initial-advertise-peer-urls={nowhere}",
        f"--initial-cluster=default={nowhere}",
        "--unsafe-no-fsync",  # nothing here outlives a crash of the machine
        "--log-level=warn",
    ]


def apiserver(files: Files, *, address: str, port: int, services: str) -> list[str]:
    """The arguments that every API server here has."""
    pki = files.pki
    return [
        f"--etcd-servers={files.etcd_socket}",
        f"--bind-address={address}",
        f"--secure-port={port}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--service-cluster-ip-range={services}",
        "--allow-privileged=true",
        f"--audit-policy-file={files.conf / 'audit-policy.json'}",
        f"--audit-log-path={files.audit_log}",
        "--profiling=false",
    ]


def apiserver_alone(files: Files, *, port: int, tokens: Path, service_accounts: bool) -> list[str]:
    """An API server on loopback, without a node."""
    return [
        *apiserver(files, address="127.0.0.1", port=port, services="10.96.0.0/24"),
        # It refuses to advertise loopback. No endpoints are made of this address (TEST-NET-2): nobody uses it.
        "--advertise-address=198.51.100.1",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        f"--token-auth-file={tokens}",
        # Nobody makes a namespace's service account without the controller manager.
        *(() if service_accounts else ("--disable-admission-plugins=ServiceAccount",)),
    ]


def apiserver_of_node(files: Files, *, address: str, services: str) -> list[str]:
    return [
        *apiserver(files, address=address, port=6443, services=services),
        f"--advertise-address={address}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={files.pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={files.pki / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--audit-log-maxsize=200",  # MiB
        "--audit-log-maxbackup=2",
    ]


def controller_manager(files: Files, kubeconfig: Path, *, port: int) -> list[str]:
    """`port` 0 serves nothing."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
        f"--root-ca-file={files.pki / 'ca.crt'}",
        f"--service-account-private-key-file={files.pki / 'service-account.key'}",
        f"--cluster-signing-cert-file={files.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={files.pki / 'ca.key'}",
        f"--flex-volume-plugin-dir={files.home / 'volume-plugins'}",
        # Its default of 20 requests a second would make the first pod wait for four seconds.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]


def scheduler(kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]


def kubelet(files: Files, *, node: str, address: str) -> list[str]:
    return [
        f"--config={files.conf / 'kubelet.json'}",
        f"--kubeconfig={files.kubeconfig_of('kubelet')}",
        f"--hostname-override={node}",
        f"--node-ip={address}",
    ]
