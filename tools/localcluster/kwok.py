"""Fake nodes beside the real one, for tests with more pods than this machine can run. Built only when asked for."""

from __future__ import annotations

import json
from pathlib import Path

from localcluster import build, manifests, processes, programs
from localcluster.embedded import Embedded
from localcluster.errors import LocalClusterError
from localcluster.progress import say, step

# What a fake node and its pods do is a list of "stages"; without any, kwok ends at once and nodes stay without status.
# They come with kwok's module, beside its code.
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)


def set_nodes(cluster: Embedded, count: int) -> None:
    """Have this many fake nodes, named kwok-0 and so on; 0 takes them away."""
    if not cluster.is_up():
        raise LocalClusterError("fake nodes need a running cluster: start it with `up` first")
    kubectl = cluster.kubectl
    if count:
        build.ensure_programs(cluster.cache, ["kwok"])
        _ensure_running(cluster)
    nodes = json.loads(kubectl("get", "nodes", "-l", "type=kwok", "-o", "json"))["items"]
    present = {node["metadata"]["name"] for node in nodes}
    wanted = {f"kwok-{number}" for number in range(count)}
    if present - wanted:
        kubectl("delete", "node", *sorted(present - wanted))
    if count:
        with step(f"{count} fake node(s)", "Ready"):
            items = [manifests.fake_node(number) for number in range(count)]
            kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
            kubectl("wait", "--for=condition=Ready", "node", "-l", "type=kwok", "--timeout=60s")
    else:
        say("no fake nodes")


def _ensure_running(cluster: Embedded) -> None:
    if any(process.name == "kwok" for process in processes.running(cluster.home)):
        return
    stages = cluster.files.conf / "kwok-stages.yaml"
    module = build.download(cluster.cache, programs.PROGRAMS["kwok"].module)
    folder = Path(module["Dir"]) / "kustomize" / "stage"
    stages.write_text("\n---\n".join((folder / name).read_text() for name in STAGES))
    cluster.sandbox.attach()
    cluster.sandbox.start(
        "kwok",
        [
            cluster.cache.program("kwok"),
            f"--kubeconfig={cluster.kubeconfig}",
            f"--config={stages}",
            "--manage-all-nodes=false",  # never the real one
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--server-address=127.0.0.1:10247",
            "--cidr=10.245.0.0/16",
            "--node-ip=127.0.0.2",
        ],
    )
