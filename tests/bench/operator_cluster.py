"""What the operator's benchmarks have in common: a control plane, both operators, pools, and the audit log.

The control plane is real: etcd and kube-apiserver, where pods are wanted also the controllers and KWOK, whose fake node
the pools name (so no scheduler is needed). Both operators use the same API server, one namespace each, one at a time.
Every figure of a request comes from the API server's audit log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from tests.integration.operator.machine import CRD, free_port
from tests.waiting import eventually_async

from celeriac_operator import resource
from celeriac_operator.desired import build as desired
from localcluster import build, kwok, manifests, processes, programs
from localcluster.controlplane import ControlPlane

Manifest = dict[str, Any]

PEER = Path(__file__).parent / "peers" / "plain_kopf_operator.py"
AGENT = "celeriac-bench"
OTHERS = (AGENT, "kube-", "kubectl", "kwok", "Go-http-client")
"""User agents, by how they begin, that are neither operator."""

CHANGING = ("create", "update", "patch", "delete", "deletecollection")
PATIENCE_SECONDS = 600.0
NODE = "kwok-0"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One answered request."""

    verb: str
    resource: str
    namespace: str
    name: str
    agent: str
    code: int
    received: float
    answered: float

    def is_write(self) -> bool:
        """Events are a courtesy to people; neither side is charged for them."""
        return self.verb in CHANGING and self.resource != "events"


def read_entry(line: str) -> Entry:
    """One line of the audit log."""
    found = json.loads(line)
    where = found.get("objectRef") or {}
    plural, sub = where.get("resource", ""), where.get("subresource", "")

    def moment(text: str) -> float:
        return datetime.fromisoformat(text).timestamp()

    return Entry(
        verb=found["verb"],
        resource=f"{plural}/{sub}" if sub else plural,
        namespace=where.get("namespace", ""),
        name=where.get("name", ""),
        agent=found.get("userAgent", ""),
        code=(found.get("responseStatus") or {}).get("code", 0),
        received=moment(found["requestReceivedTimestamp"]),
        answered=moment(found["stageTimestamp"]),
    )


@dataclass
class Audit:
    """The audit log, read on from where the last reading ended."""

    path: Path
    _offset: int = 0

    def skip(self) -> None:
        """Leave out what is there."""
        self._offset = self.path.stat().st_size

    def read(self) -> list[Entry]:
        """Return the lines since the last reading."""
        with self.path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [read_entry(line) for line in whole.decode().splitlines()]

    def of(self, namespace: str) -> list[Entry]:
        """Return the requests of an operator in its namespace since then."""
        return [each for each in self.read() if each.namespace == namespace and not each.agent.startswith(OTHERS)]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A running operator of either side."""

    process: subprocess.Popen[bytes]
    log: Path
    metrics_port: int

    def resident_mib(self) -> float:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def running(kubeconfig: Path, namespace: str, folder: Path, *, ours: bool) -> Iterator[Operator]:
    """Start an operator, and end it at the end."""
    metrics_port, health_port = free_port(), free_port()
    log = folder / f"{namespace}.log"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "KUBECONFIG": str(kubeconfig),
        "CELERIAC_WORKER_IMAGE": "celeriac-worker:1",
        "CELERIAC_WATCH_NAMESPACES": namespace,
        "CELERIAC_HEALTH_PORT": str(health_port),
        "CELERIAC_METRICS_PORT": str(metrics_port),
    }
    command = [sys.executable, "-m", "celeriac_operator"]
    if not ours:
        command = [sys.executable, "-m", "kopf", "run", "--quiet", "--standalone", "-n", namespace, str(PEER)]
    with a_process(command, environment, log) as process:
        yield Operator(process=process, log=log, metrics_port=metrics_port)


@contextlib.contextmanager
def a_process(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, and end it at the end; it must not have ended before."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
        assert process.poll() is None, f"{command[0]} has ended: {log.read_text()[-2000:]}"
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@dataclass
class Bench:
    """A control plane with the CRD, and a client."""

    control_plane: ControlPlane
    session: aiohttp.ClientSession
    folder: Path
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        self.audit = Audit(self.control_plane.audit_log)

    async def request(
        self, verb: str, path: str, body: Manifest | None = None, kind: str = "application/json"
    ) -> Manifest:
        headers = {"Authorization": f"Bearer {self.control_plane.token}", "Content-Type": kind, "User-Agent": AGENT}
        url = f"{self.control_plane.server}{path}"
        async with self.session.request(verb, url, json=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status >= 300:
                raise RuntimeError(f"{verb} {path}: {answer.status} {text[:500]}")
            found: Manifest = json.loads(text)
            return found

    async def merge(self, path: str, patch: Manifest) -> Manifest:
        return await self.request("PATCH", path, patch, "application/merge-patch+json")

    async def namespace(self, name: str) -> None:
        await self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    async def items(self, path: str) -> list[Manifest]:
        found: list[Manifest] = (await self.request("GET", path))["items"]
        return found

    async def create(self, namespace: str, names: Iterable[str], **spec: Any) -> None:
        """Pools with these names, eight at a time."""
        await in_parallel(8, [self.request("POST", pools(namespace), pool(namespace, each, **spec)) for each in names])

    @contextlib.contextmanager
    def operator(self, namespace: str, *, ours: bool) -> Iterator[Operator]:
        with running(self.control_plane.kubeconfig, namespace, self.folder, ours=ours) as operator:
            yield operator


@contextlib.asynccontextmanager
async def open_bench(*, pods: bool) -> AsyncIterator[Bench]:
    """Everything that is needed; `pods`: Deployments get them, and they become ready."""
    with contextlib.ExitStack() as stack:
        control_plane = stack.enter_context(ControlPlane(controllers=pods))
        await asyncio.to_thread(control_plane.kubectl, "apply", "--server-side", "-f", str(CRD))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-bench-")))
        tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
        connector = aiohttp.TCPConnector(ssl=tls, limit=32)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
            bench = Bench(control_plane, session, folder)
            await until("CRD", lambda: _serves(bench))
            if pods:
                await asyncio.to_thread(_start_kwok, control_plane)
                await bench.request("POST", "/api/v1/nodes", manifests.fake_node(0) | _ROOMY)
            yield bench


_ROOMY = {"status": {kind: {"cpu": "9k", "memory": "9Ti", "pods": "9k"} for kind in ("allocatable", "capacity")}}


def _start_kwok(control_plane: ControlPlane) -> None:
    """Fake kubelets beside a control plane that has no other ones."""
    cache = control_plane.cache
    build.ensure_programs(cache, ["kwok"])
    module = build.download(cache, programs.PROGRAMS["kwok"].module)
    folder = Path(module["Dir"]) / "kustomize" / "stage"
    stages = control_plane.home / "kwok-stages.yaml"
    stages.write_text("\n---\n".join((folder / name).read_text() for name in kwok.STAGES))
    command: list[str | Path] = [
        cache.program("kwok"),
        f"--kubeconfig={control_plane.kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes=true",
        f"--server-address=127.0.0.1:{free_port()}",
        "--node-lease-duration-seconds=40",  # without Leases the node counts as gone after as long
        "--cidr=10.245.0.0/16",
        "--node-ip=127.0.0.2",
    ]
    processes.start("kwok", command, home=control_plane.home, log=control_plane.files.log("kwok"))


async def _serves(bench: Bench) -> bool:
    with contextlib.suppress(RuntimeError, aiohttp.ClientError):
        return bool(await bench.request("GET", pools("default")))
    return False


def pools(namespace: str, name: str = "", sub: str = "") -> str:
    """The API path of the pools."""
    parts = ("/apis/celeriac.dev/v1alpha1/namespaces", namespace, "celeryworkerpools", name, sub)
    return "/".join(part for part in parts if part)


def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def pool(namespace: str, name: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": "celeriac.dev/v1alpha1",
        "kind": "CeleryWorkerPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"app": "shop.celery:app", "image": "shop:1", "template": ON_NODE, **spec},
    }


ON_NODE = {"spec": {"nodeName": NODE}}


def wanted(there: Manifest) -> list[Manifest]:
    """Every object that should exist for a pool as the API server returns it."""
    choices = desired.Choices(library_image="celeriac-worker:1")
    return list(desired.build(resource.CeleryWorkerPool.parse(there), choices))


def is_ready(there: Manifest, replicas: int) -> bool:
    """Whether the status of the pool's current generation reports this number of workers."""
    status = there.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    present = status.get("observedGeneration") == there["metadata"]["generation"]
    return present and ready.get("status") == "True" and status.get("readyReplicas") == replicas


async def in_parallel(width: int, work: Sequence[Awaitable[Any]]) -> None:
    todo = iter(work)

    async def one() -> None:
        for each in todo:
            await each

    await asyncio.gather(*(one() for _ in range(width)))


async def until(what: str, look: Callable[[], Awaitable[Any]], *, every: float = 0.1) -> Any:
    """Wait as long as a slow machine may need."""
    return await eventually_async(look, timeout=PATIENCE_SECONDS, what=what, every=every)


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    for row in [cells[0], ["-" * width for width in widths], *cells[1:]]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def print_result(name: str, *, ours: float, peer: float, ratio: float, unit: str, details: Mapping[str, Any]) -> None:
    """The last line; a ratio above 1 means that ours is better."""
    line = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(ratio, 3), "unit": unit}
    print(json.dumps({**line, "details": details}))


def fewer_is_better(ours: float, peer: float) -> float:
    """The ratio of two counts, of which the better one may be 0."""
    return (peer + 1) / (ours + 1)
