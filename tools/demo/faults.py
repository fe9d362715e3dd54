"""How are a worker frozen and a Redis killed? By a signal to the container's first process, sent from the node.

A container's first process ignores SIGSTOP and SIGKILL from inside its own container, so the signal comes from a
short-lived pod that sees the node's processes. It needs permission to create such a pod (hostPID, root).
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Literal

from demo import waiting
from demo.kubernetes import Kube

Signal = Literal["STOP", "KILL"]

# Finds the process that is number 1 in a container (the first argument is its id) and sends it a signal (the second).
SCRIPT = """
import os, pathlib, signal, sys
container, name = sys.argv[1:]
for folder in pathlib.Path("/proc").iterdir():
    if not folder.name.isdigit():
        continue
    try:
        if container not in (folder / "cgroup").read_text():
            continue
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        continue  # it ended meanwhile
    if next(line for line in lines if line.startswith("NSpid:")).split()[-1] == "1":
        os.kill(int(folder.name), signal.Signals["SIG" + name])
        sys.exit()
sys.exit(f"no first process of container {container} on this node")
"""


def send(kube: Kube, pod: Any, container: str, signal: Signal) -> None:
    """Send a signal to a container's first process.

    Args:
        kube: the pod's namespace.
        pod: the pod, as the cluster describes it.
        container: the container's name in it; its image, which the node has, must have a python3.
        signal: which one.

    Raises:
        RuntimeError: it could not be sent; the message says why.
    """
    states = pod["status"]["containerStatuses"]
    container_id = next(state["containerID"] for state in states if state["name"] == container).rpartition("/")[2]
    image = next(each["image"] for each in pod["spec"]["containers"] if each["name"] == container)
    name = f"fault-{uuid.uuid4().hex[:8]}"
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": pod["spec"]["nodeName"],
            "hostPID": True,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "fault",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", SCRIPT, container_id, signal],
                    "securityContext": {"runAsUser": 0, "runAsNonRoot": False, "readOnlyRootFilesystem": True},
                }
            ],
        },
    }
    kube.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    try:
        phase = waiting.until(
            f"the signal {signal} is sent",
            lambda: kube.read(f"api/v1/namespaces/{kube.namespace}/pods/{name}")["status"].get("phase"),
            lambda seen: seen in ("Succeeded", "Failed"),
            seconds=30,
        )
        if phase != "Succeeded":
            raise RuntimeError(f"could not send SIG{signal} to {pod['metadata']['name']}: {kube.kubectl('logs', name)}")
    finally:
        kube.kubectl("delete", "pod", name, "--wait=false", "--grace-period=0", "--force")
