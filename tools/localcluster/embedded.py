"""The embedded cluster: one node of real Kubernetes, its programs run as processes of this machine.

`up` may be interrupted at any moment, `down` is always safe, and both leave alone what they did not start.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster import (
    build,
    buildah,
    certificates,
    configuration,
    flags,
    locks,
    manifests,
    network,
    processes,
    readiness,
    sandbox,
)
from localcluster.api import Api
from localcluster.errors import CommandError, LocalClusterError
from localcluster.kubectl import Kubectl
from localcluster.paths import Cache
from localcluster.progress import say, step

PACKAGES = (
    *("containernetworking-plugins", "iptables", "conntrack", "socat", "ebtables"),
    *("iproute2", "kmod", "util-linux", "procps", "openssl", "buildah"),
)
# Only where there is none: Debian's would throw out the one that Docker's own packages bring, and Docker with it.
RUNTIME_PACKAGES = ("containerd", "runc")
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
PROCESSES = (sandbox.INIT, "containerd", *CONTROL_PLANE, "kubelet", "kube-proxy")
SOCKET_PATH_LIMIT = 107  # bytes, in Linux


class Embedded:
    """Starts, stops and describes the embedded cluster of one cache."""

    name = "embedded"
    image_prefix = "localhost"

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.home = cache.cluster
        self.files = flags.Files(self.home)
        self.sandbox = sandbox.Sandbox(self.home)

    @property
    def kubeconfig(self) -> Path:
        return self.files.kubeconfig

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.cache.program("kubectl"), self.kubeconfig, self.home / "kubecache")

    @property
    def helm(self) -> Path:
        return self.cache.program("helm")

    def up(self) -> None:
        self._check_machine()
        with self._lock():
            if self.is_up():
                say(f"the cluster is up: {self._network().server}")
                return
            build.ensure_packages(*PACKAGES, *(name for name in RUNTIME_PACKAGES if not shutil.which(name)))
            build.ensure_programs(self.cache)
            if self.home.exists() or processes.running(self.home):
                with step("removing what an interrupted or crashed cluster left"):
                    sandbox.destroy(self.home)
            try:
                self._start(network.choose(sandbox.used_networks()))
            except BaseException:
                self._give_up()
                raise
            shutil.rmtree(self._failed_logs, ignore_errors=True)
            say(f"the cluster is up: {self._network().server}")

    def down(self) -> None:
        self._check_root()
        with self._lock():
            if not self.home.exists() and not processes.running(self.home):
                say("no cluster is running here")
                return
            with step("stopping the cluster", "gone"):
                sandbox.destroy(self.home)

    def is_up(self) -> bool:
        """Started to the end, every process alive, the API server ready."""
        return self._started.exists() and not self._missing() and Api.of(self.kubeconfig).get("/readyz") is not None

    def status(self) -> dict[str, Any]:
        """What runs, for people and as JSON; see `commands.print_status` for how it is shown."""
        running = processes.running(self.home)
        answer: dict[str, Any] = {"provider": self.name, "up": False, "home": str(self.home)}
        if not running and not self.home.exists():
            return {**answer, "state": "down"}
        answer["processes"] = [
            {"name": process.name, "pid": process.pid, "memoryMiB": processes.memory_mib(process.pid)}
            for process in sorted(running, key=lambda it: it.pid)
        ]
        if not running:
            return {**answer, "state": "down: a crash or a restart of the machine left files, which `up` removes"}
        if not self.is_up():
            missing = ", ".join(self._missing()) or "kube-apiserver"
            return {**answer, "state": f"broken: {missing} does not run or answer; `up` starts afresh"}
        api = Api.of(self.kubeconfig)
        pods, namespaces, nodes = (api.items(f"/api/v1/{kind}") for kind in ("pods", "namespaces", "nodes"))
        names = [item["metadata"]["name"] for item in namespaces]
        return {
            **answer,
            "up": True,
            "state": "up",
            "server": self._network().server,
            "kubeconfig": str(self.kubeconfig),
            "auditLog": str(self.files.audit_log),
            "nodes": {it["metadata"]["name"]: _is_ready(it) for it in nodes},
            "namespaces": {name: sum(pod["metadata"]["namespace"] == name for pod in pods) for name in names},
            "images": self.images(),
        }

    def images(self) -> list[str]:
        """Names of the images that pods can use."""
        names = self._ctr("images", "ls", "-q").split()
        return sorted(name for name in names if not name.startswith("sha256:"))

    def load(self, images: Mapping[str, Path | None]) -> list[str]:
        """Bring these images (name -> archive) into the cluster; returns those that were not there yet."""
        present = set(self.images())
        new = [name for name in images if name not in present]
        for name in new:
            with step(f"importing {name}"):
                self._ctr("images", "import", str(images[name]))
        return new

    @property
    def _failed_logs(self) -> Path:
        return self.home.with_name(f"{self.home.name}-failed-log")

    @property
    def _started(self) -> Path:
        """Written last: it marks that `up` has finished."""
        return self.home / "cluster.json"

    def _network(self) -> network.Network:
        return network.Network(json.loads(self._started.read_text())["network"])

    def _missing(self) -> list[str]:
        names = {process.name for process in processes.running(self.home)}
        return [name for name in PROCESSES if name not in names]

    def _check_root(self) -> None:
        if platform.system() != "Linux":
            raise LocalClusterError(
                "the embedded cluster runs on Linux only; with Docker running, kind is used instead"
            )
        if os.geteuid() != 0:
            raise LocalClusterError(
                "the embedded cluster needs root for its namespaces: run this as root, or start Docker and kind is used"
            )

    def _check_machine(self) -> None:
        self._check_root()
        longest = len(os.fsencode(self.home / "containerd.sock"))
        if longest > SOCKET_PATH_LIMIT:
            raise LocalClusterError(f"the path {self.home} is too long for a socket; set CELERIAC_CLUSTER_HOME")

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """One `up` or `down` at a time for one home."""
        waiting = "another start or stop of this cluster is under way; waiting for it"
        return locks.exclusive(self.home.with_name(f"{self.home.name}.lock"), waiting)

    def _give_up(self) -> None:
        """After a failed or interrupted start: keep the logs and remove the rest."""
        shutil.rmtree(self._failed_logs, ignore_errors=True)
        if self.files.logs.exists():
            shutil.copytree(self.files.logs, self._failed_logs, ignore_dangling_symlinks=True)
            say(f"the logs of this start are in {self._failed_logs}")
        sandbox.destroy(self.home)

    def _start(self, net: network.Network) -> None:
        with step("images of the cluster's own pods"):
            own = dict(buildah.static_image(self.cache, name) for name in ("pause", "coredns"))
        pause_image, dns_image = own
        with step("certificates, configuration, namespaces"):
            sandbox.claim(self.home)
            self._write_certificates(net)
            self._write_configuration(net, pause_image)
            sandbox.load_kernel_modules()
            self.sandbox.create(net, self.cache.program("pause"))
        with step("control plane", "ready") as progress:
            self._start_program("etcd", flags.etcd(self.files))
            self.sandbox.start("containerd", ["containerd", "-c", self.files.conf / "containerd.toml"])
            apiserver = flags.apiserver_of_node(self.files, address=net.node, services=net.services)
            self._start_program("kube-apiserver", apiserver)
            self._await("containerd", self._containerd_answers, "containerd", progress.update)
            for archive in own.values():
                self._ctr("images", "import", str(archive))
            api = Api.of(self.kubeconfig)
            self._await("API server ready", lambda: api.get("/readyz"), "kube-apiserver", progress.update)
        with step("node", "Ready") as progress:
            self._start_node(net)
            objects = {"apiVersion": "v1", "kind": "List", "items": manifests.dns(net, dns_image)}
            self.kubectl("apply", "-f", "-", input=json.dumps(objects))
            node = f"/api/v1/nodes/{configuration.NODE}"
            self._await("node Ready", lambda: _is_ready(api.get(node)), "kubelet", progress.update)
        with step("DNS", "answers") as progress:
            self._await("DNS", lambda: _accepts(net.dns_service, 53), "kube-proxy", progress.update)
        self._started.write_text(json.dumps({"network": net.number}))

    def _start_node(self, net: network.Network) -> None:
        manager, scheduler = (self.files.kubeconfig_of(name) for name in ("controller-manager", "scheduler"))
        credentials = "--use-service-account-credentials=true"  # each controller with its own rights, as in any cluster
        self._start_program(
            "kube-controller-manager", [*flags.controller_manager(self.files, manager, port=10257), credentials]
        )
        self._start_program("kube-scheduler", flags.scheduler(scheduler))
        self._start_program("kubelet", flags.kubelet(self.files, node=configuration.NODE, address=net.node))
        self._start_program("kube-proxy", [f"--config={self.files.conf / 'kube-proxy.json'}"])

    def _start_program(self, name: str, arguments: list[str]) -> None:
        self.sandbox.start(name, [self.cache.program(name), *arguments])

    def _write_certificates(self, net: network.Network) -> None:
        authority = certificates.Authority.create(self.files.pki)
        authority.service_account_keys()
        cluster = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        hosts = [f"DNS:{name}" for name in (configuration.NODE, "localhost", *cluster)]
        hosts += [f"IP:{address}" for address in ("127.0.0.1", net.node, net.api_service)]
        authority.sign("apiserver", "/CN=kube-apiserver", hosts)
        authority.sign("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", hosts)
        self.files.conf.mkdir()
        for name, subject in (
            ("admin", "/O=system:masters/CN=admin"),
            ("controller-manager", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"),
            ("kube-proxy", "/CN=system:kube-proxy"),
            ("kubelet", f"/O=system:nodes/CN=system:node:{configuration.NODE}"),
        ):
            certificate, key = authority.sign(name, subject, hosts)
            user = certificates.client_user(certificate.read_bytes(), key.read_bytes())
            text = certificates.kubeconfig(net.server, authority.certificate.read_bytes(), user)
            certificates.write_private(self.files.kubeconfig_of(name), text)
        shutil.copy(self.files.kubeconfig_of("admin"), self.kubeconfig)

    def _write_configuration(self, net: network.Network, pause_image: str) -> None:
        conf = self.files.conf
        (conf / "cni").mkdir()
        self.files.logs.mkdir(exist_ok=True)
        for name, text in (
            ("audit-policy.json", json.dumps(flags.AUDIT_POLICY)),
            ("containerd.toml", configuration.containerd(self.home, pause_image)),
            ("cni/10-pods.conflist", configuration.cni(net, self.home)),
            ("kubelet.json", configuration.kubelet(net, self.home)),
            ("kube-proxy.json", configuration.kube_proxy(net, self.files.kubeconfig_of("kube-proxy"))),
            ("resolv.conf", "# no resolver beyond the cluster's own\n"),
        ):
            (conf / name).write_text(text)

    def _await(self, what: str, condition: Any, culprit: str, report: Any) -> None:
        started = {process.name for process in processes.running(self.home)}
        needs = started & set(PROCESSES) | {culprit}
        readiness.wait_until(what, condition, files=self.files, needs=needs, culprit=culprit, report=report)

    def _containerd_answers(self) -> bool:
        try:
            self._ctr("version")
        except CommandError:
            return False
        return True

    def _ctr(self, *words: str) -> str:
        return sandbox.run("ctr", f"--address={self.home / 'containerd.sock'}", "--namespace=k8s.io", *words)


def _is_ready(node: Any) -> bool:
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def _accepts(address: str, port: int) -> bool:
    """Connect from this machine: this shows that the route, the service and a ready pod behind it work."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
