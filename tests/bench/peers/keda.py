"""KEDA itself with its defaults: its operator, built from its Go module, and Deployments with a ScaledObject each.

No HorizontalPodAutoscaler acts: KEDA's own operator takes a Deployment from zero to one, and that is what is measured.
Its limit of requests a second is lifted, so that it is at its best.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from operator_cluster import Bench, Entry, Manifest, a_process, deployments, in_parallel, until
from tests.integration.operator.machine import free_port

from localcluster import build, programs

NAMESPACE = "keda"
PROGRAM = "keda-operator"
LIST_LENGTH = 5
MOST = 100


def is_scale(entry: Entry) -> bool:
    """Whether it says how many pods a Deployment has."""
    return entry.namespace == NAMESPACE and entry.resource == "deployments/scale" and entry.is_write()


def scaled_objects(namespace: str = NAMESPACE) -> str:
    return f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects"


def deployment(name: str) -> Manifest:
    labels = {"app": name}
    containers = [{"name": "worker", "image": "shop:1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def scaled_object(name: str, address: str, **target: str) -> Manifest:
    """Of a Deployment, or of another kind; `pollingInterval` and all else as KEDA has it where nobody says anything."""
    trigger = {"address": address, "listName": name, "listLength": str(LIST_LENGTH)}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"name": name, **target},
            "minReplicaCount": 0,
            "maxReplicaCount": MOST,
            "triggers": [{"type": "redis", "metadata": trigger}],
        },
    }


@contextlib.asynccontextmanager
async def scaling(bench: Bench, names: Sequence[str], address: str, *beside: str) -> AsyncIterator[None]:
    """KEDA, and these Deployments at rest, each with the queue of its name on the Redis at `host:port`.

    It looks at the namespaces `beside` its own, too.
    """
    cache = bench.control_plane.cache
    build.ensure_programs(cache, [PROGRAM])
    module = build.download(cache, programs.PROGRAMS[PROGRAM].module)
    bench.control_plane.kubectl("apply", "--server-side", "-f", str(Path(module["Dir"]) / "config" / "crd" / "bases"))
    await bench.namespace(NAMESPACE)
    await in_parallel(8, [bench.request("POST", deployments(NAMESPACE), deployment(name)) for name in names])
    with _running(bench, (NAMESPACE, *beside)):
        work = [bench.request("POST", scaled_objects(), scaled_object(name, address)) for name in names]
        await until("ScaledObjects", lambda: _serves(bench))
        await in_parallel(8, work)
        await until("all ScaledObjects", lambda: _all_ready(bench, len(names)), every=2)
        yield


async def _serves(bench: Bench) -> bool:
    with contextlib.suppress(RuntimeError):
        return not await bench.items(scaled_objects())
    return False


async def _all_ready(bench: Bench, count: int) -> bool:
    def is_ready(there: dict[str, Any]) -> bool:
        conditions = (there.get("status") or {}).get("conditions") or ()
        return {"Ready": "True", "Active": "False"}.items() <= {it["type"]: it["status"] for it in conditions}.items()

    return sum(map(is_ready, await bench.items(scaled_objects()))) >= count


@contextlib.contextmanager
def _running(bench: Bench, namespaces: Sequence[str]) -> Iterator[None]:
    plane = bench.control_plane
    certificates = bench.folder / "keda-certificates"
    certificates.mkdir()
    # For its service for metrics, which nobody asks here, but without which it does not start.
    for there, name in (("ca.crt", "ca.crt"), ("apiserver.crt", "tls.crt"), ("apiserver.key", "tls.key")):
        shutil.copy(plane.files.pki / there, certificates / name)
    command: list[str | Path] = [
        plane.cache.program(PROGRAM),
        f"--cert-dir={certificates}",
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
        f"--health-probe-bind-address=127.0.0.1:{free_port()}",
        f"--metrics-service-bind-address=127.0.0.1:{free_port()}",
        "--kube-api-qps=1000",
        "--kube-api-burst=1000",
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(plane.kubeconfig),
        "WATCH_NAMESPACE": ",".join(namespaces),
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
    }
    with a_process(command, environment, bench.folder / "keda.log"):
        yield
