"""What the tests here talk to: an API client, the operator as a process, and waiting that says what was seen last."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[3]
CRD = ROOT / "crds" / "celeriac.dev_celeryworkerpools.yaml"
KNOWN_SECONDS = 10
"""From the moment at which the cluster knows why a pool does not become ready to the pool that says it."""

OPERATOR = "system:serviceaccount:celeriac:operator"

PATHS = {
    "CeleryWorkerPool": "/apis/celeriac.dev/v1alpha1/namespaces/{}/celeryworkerpools",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Event": "/api/v1/namespaces/{}/events",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
}

# What the operator's documentation asks for; the operator of these tests has nothing else.
RULES = [
    {"apiGroups": ["celeriac.dev"], "resources": ["celeryworkerpools"], "verbs": ["list", "watch"]},
    {"apiGroups": ["celeriac.dev"], "resources": ["celeryworkerpools/status"], "verbs": ["patch"]},
    {"apiGroups": ["celeriac.dev"], "resources": ["celeryworkerpools/scale"], "verbs": ["patch"]},
    {"apiGroups": ["celeriac.dev"], "resources": ["celeryworkerpools/finalizers"], "verbs": ["update"]},
    {
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    },
    {
        "apiGroups": ["policy"],
        "resources": ["poddisruptionbudgets"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
    {
        "apiGroups": [""],
        "resources": ["secrets"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]


class RefusedError(Exception):
    """The API server said no; the text is its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """The API server, as an administrator."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._server = control_plane.server
        self._token = control_plane.token
        self._tls = ssl.create_default_context(cafile=str(control_plane.ca_file))

    def request(self, verb: str, path: str, body: Manifest | None = None, kind: str = "application/json") -> Manifest:
        request = urllib.request.Request(  # noqa: S310 -- the test's own server
            f"{self._server}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method=verb,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, context=self._tls, timeout=30) as answer:  # noqa: S310 -- ditto
                document: Manifest = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            # An unknown path is answered in plain text.
            raise RefusedError(error.code, json.loads(text)["message"] if text.startswith("{") else text) from None

    def create(self, kind: str, namespace: str, body: Manifest) -> Manifest:
        return self.request("POST", PATHS[kind].format(namespace), body)

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        try:
            return self.request("GET", f"{PATHS[kind].format(namespace)}/{name}")
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str) -> list[Manifest]:
        items: list[Manifest] = self.request("GET", PATHS[kind].format(namespace))["items"]
        return items

    def apply(self, body: Manifest, *, dry_run: bool = False, manager: str = "kubectl") -> Manifest:
        """As kubectl apply --server-side does: unknown fields are refused."""
        metadata = body["metadata"]
        query = f"fieldManager={manager}&fieldValidation=Strict{'&dryRun=All' if dry_run else ''}"
        path = f"{PATHS[body['kind']].format(metadata['namespace'])}/{metadata['name']}?{query}"
        return self.request("PATCH", path, body, "application/apply-patch+yaml")

    def merge(self, kind: str, namespace: str, name: str, patch: Manifest, subresource: str = "") -> Manifest:
        path = "/".join(part for part in (PATHS[kind].format(namespace), name, subresource) if part)
        return self.request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, kind: str, namespace: str, name: str) -> None:
        with contextlib.suppress(RefusedError):
            self.request("DELETE", f"{PATHS[kind].format(namespace)}/{name}")

    def serves_pools(self, version: str = "v1alpha1") -> bool:
        """Whether pools can be listed in this version of the resource."""
        with contextlib.suppress(RefusedError):
            return bool(self.request("GET", pools_path("default", version))["kind"])
        return False


def pools_path(namespace: str, version: str) -> str:
    """Where the pools of a namespace are, in a version of the resource."""
    return PATHS["CeleryWorkerPool"].format(namespace).replace("v1alpha1", version)


@dataclass
class Place:
    """A namespace of a test's own."""

    api: Api
    namespace: str

    def pool(self, name: str = "emails", **spec: Any) -> Manifest:
        """Apply a pool with these fields of its spec."""
        return self.api.apply(self.pool_manifest(name, **spec))

    def pool_manifest(self, name: str = "emails", **spec: Any) -> Manifest:
        return {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "CeleryWorkerPool",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"app": "shop.celery:app", "image": "shop:1", **spec},
        }

    def secret(self, name: str, **values: str) -> None:
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace},
            "stringData": values,
        }
        self.api.apply(manifest)

    def get(self, kind: str, name: str = "emails") -> Manifest | None:
        return self.api.get(kind, self.namespace, name)

    def conditions(self, name: str = "emails") -> dict[str, Manifest]:
        pool = self.get("CeleryWorkerPool", name) or {}
        return {each["type"]: each for each in pool.get("status", {}).get("conditions", [])}

    def reasons(self, name: str = "emails") -> dict[str, str]:
        """Conditions in short: {"Ready": "False Progressing"}."""
        return {kind: f"{each['status']} {each['reason']}" for kind, each in self.conditions(name).items()}

    def await_reason(self, kind: str, reason: str, name: str = "emails") -> Manifest:
        """Wait for a condition with this status and reason, for Stalled no longer than is promised; returns it."""
        eventually(
            lambda: self.reasons(name),
            lambda found: found.get(kind) == reason,
            timeout=KNOWN_SECONDS if kind == "Stalled" else 60,
            what=f"{kind}={reason}",
        )
        return self.conditions(name)[kind]

    def await_deployment(self, accept: Callable[[Manifest], bool] = bool, name: str = "emails") -> Manifest:
        found: Manifest = eventually(
            lambda: self.get("Deployment", name), lambda seen: seen is not None and accept(seen), what="such Deployment"
        )
        return found

    def pods(self) -> list[Manifest]:
        return self.api.list("Pod", self.namespace)

    def await_pods(self, count: int) -> list[Manifest]:
        pods: list[Manifest] = eventually(self.pods, lambda seen: len(seen) == count, what=f"{count} pods")
        return pods

    def set_pod(self, pod: Manifest, **status: Any) -> None:
        """Say what the kubelet would say."""
        self.api.merge("Pod", self.namespace, pod["metadata"]["name"], {"status": status}, "status")

    def make_ready(self, pods: list[Manifest]) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        container = {
            "name": "worker",
            "image": "x",
            "imageID": "x",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }
        for pod in pods:
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            self.set_pod(pod, phase="Running", conditions=[ready], containerStatuses=[container])

    def set_container(self, pod: Manifest, **status: Any) -> None:
        """Say how the worker's container is."""
        container = {
            "name": "worker",
            "image": "x",
            "imageID": "",
            "ready": False,
            "started": False,
            "restartCount": 0,
            **status,
        }
        self.set_pod(pod, phase="Pending", containerStatuses=[container])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Operator:
    """The operator as a process."""

    process: subprocess.Popen[bytes]
    log: Path
    health_port: int
    metrics_port: int
    stopped: bool = field(default=False)

    def text(self) -> str:
        return self.log.read_text()

    def await_start(self) -> None:
        eventually(
            self.text, lambda text: "worker library image" in text or self.process.poll(), what="log line of the start"
        )
        assert self.process.poll() is None, self.text()

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def healthy(self) -> bool:
        url = f"http://127.0.0.1:{self.health_port}/healthz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: bool = answer.status == 200
            return found

    def idle(self) -> None:
        """Wait until it has looked at everything."""
        eventually(lambda: self.metric("celeriac_operator_queue_depth"), lambda depth: depth == 0, what="empty queue")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.stopped = True
        self.process.send_signal(number)
        return self.process.wait(20)


@contextlib.contextmanager
def running_operator(
    kubeconfig: Path, folder: Path, *, await_start: bool = True, **environment: str
) -> Iterator[Operator]:
    """Start the operator, and end it at the end. Warnings of deprecation are errors in it."""
    health, metrics = free_port(), free_port()
    log = folder / f"operator-{health}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "error::DeprecationWarning", "-m", "celeriac_operator"],
            env={
                "PATH": os.environ["PATH"],
                "KUBECONFIG": str(kubeconfig),
                "CELERIAC_WORKER_IMAGE": "celeriac-worker:1",
                "CELERIAC_HEALTH_PORT": str(health),
                "CELERIAC_METRICS_PORT": str(metrics),
                "CELERIAC_LOG_LEVEL": "DEBUG",
                "CELERIAC_STALLED_AFTER_SECONDS": "0",  # a test of the grace period sets it
                **environment,
            },
            stdout=output,
            stderr=output,
        )
    operator = Operator(process=process, log=log, health_port=health, metrics_port=metrics)
    try:
        if await_start:
            operator.await_start()
        yield operator
    except BaseException:
        print(operator.text())  # pytest shows it beside the failure
        raise
    finally:
        process.kill()
        process.wait()


def audit(control_plane: ControlPlane, *, user: str = OPERATOR) -> list[Manifest]:
    """Every request of a user so far, as the API server noted it."""
    entries = (json.loads(line) for line in control_plane.audit_log.read_text().splitlines() if line.endswith("}"))
    return [entry for entry in entries if entry["user"]["username"] == user]


def writes(control_plane: ControlPlane) -> list[str]:
    """The operator's writes so far, in short."""
    changing = ("create", "update", "patch", "delete", "deletecollection")
    return [f"{entry['verb']} {entry['requestURI']}" for entry in audit(control_plane) if entry["verb"] in changing]
