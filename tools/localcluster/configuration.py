"""(pure) The configuration files of a node: containerd, CNI, kubelet, kube-proxy.

All but containerd's are JSON, which is YAML too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from localcluster.network import Network

NODE = "local"  # the node's name, and the value of its label kubernetes.io/hostname
BRIDGE = "cni0"
CNI_PLUGINS = Path("/usr/lib/cni")  # Debian's containernetworking-plugins

# Paths fixed in the programs. In the cluster's own mount namespace each shows a folder of the cluster's home.
FIXED_PATHS = (
    Path("/run/containerd"),
    Path("/var/lib/cni"),
    Path("/var/lib/kubelet"),
    Path("/var/log/containers"),
)


def containerd(home: Path, pause_image: str) -> str:
    return f"""\
version = 2
root = "{home}/containerd"
state = "/run/containerd/state"
[grpc]
  address = "{home}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  # Without CAP_SYS_RESOURCE nobody may lower an OOM score, and no sandbox would start.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{home}/conf/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""


def cni(network: Network, home: Path) -> str:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,  # there is nowhere to go
        "hairpinMode": True,  # a pod reaches itself through its own service
        "ipam": {
            "type": "host-local",
            "dataDir": str(home / "cni"),
            # The rest of the network is the machine's.
            "ranges": [[{"subnet": network.pods, "rangeEnd": network.last_pod}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}, indent=1)


def kubelet(network: Network, home: Path) -> str:
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{home}/containerd.sock",
            "address": network.node,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{home}/pki/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [network.dns_service],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{home}/conf/resolv.conf",  # empty: no pod sees the machine's resolver
            "podLogsDir": f"{home}/log/pods",
            "volumePluginDir": f"{home}/volume-plugins",
            # Its group belongs to this cluster, so that two kubelets do not remove each other's pods.
            "cgroupRoot": f"/{home_id(home)}",
            "cgroupDriver": "cgroupfs",  # systemd's needs systemd
            "failCgroupV1": False,  # 1.35 refuses to start on version 1 unless it is told to
            "oomScoreAdj": 0,
            "failSwapOn": False,
            "maxPods": 200,
            # Imported images cannot be pulled again: never remove one.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "syncFrequency": "10s",
            "nodeStatusUpdateFrequency": "5s",
            "serializeImagePulls": False,
        },
        indent=1,
    )


def kube_proxy(network: Network, kubeconfig: Path) -> str:
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": network.pods,
            "hostnameOverride": NODE,
            "oomScoreAdj": 0,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "nodePortAddresses": ["primary"],
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            # These sysctls belong to the machine and may be read-only.
            "conntrack": {"maxPerCore": 0, "min": 0},
        },
        indent=1,
    )


def home_id(home: Path) -> str:
    """Names what a cluster has outside its home (cgroup, network interface), so that it is found after any crash."""
    return f"clr-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"
