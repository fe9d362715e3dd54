"""A Kubernetes API server for integration tests: etcd and kube-apiserver on loopback, ready in about three seconds.

    with ControlPlane() as control_plane:
        control_plane.kubectl("create", "namespace", "x")

Real storage, real validation (CRD schemas and CEL), real server-side apply, RBAC, admission and audit, but no node:
pods stay pending. With `controllers=True` the controller manager runs too: Deployments get status, owned objects are
collected, namespaces get their service accounts. Several can run at once: ports are free ones, files lie in a temporary
folder, and etcd listens on a socket in it. When the program that started it is killed, everything goes with it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from localcluster import build, certificates, flags, guard, processes, programs, readiness
from localcluster.api import Api
from localcluster.errors import LocalClusterError
from localcluster.kubectl import Kubectl
from localcluster.paths import TOOLS, Cache

PORT_ATTEMPTS = 5


class ControlPlane:
    """etcd + kube-apiserver (+ kube-controller-manager) on loopback; a context manager, or `start` and `stop`.

    After `start`: `server` (URL), `ca_file`, `token` (of a member of system:masters), `kubeconfig`, `audit_log` (JSON
    lines, level Metadata), `kubectl(*args, input=None)`. Programs that are missing are built first: that takes minutes.
    """

    def __init__(self, *, controllers: bool = False, cache: Cache | None = None) -> None:
        self.controllers = controllers
        self.cache = cache or Cache.default()
        self.token = secrets.token_urlsafe(24)
        self.server = ""
        self._home: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        if self._home is None:
            raise LocalClusterError("the control plane is not started")
        return self._home

    @property
    def files(self) -> flags.Files:
        return flags.Files(self.home)

    @property
    def ca_file(self) -> Path:
        return self.files.pki / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        return self.files.kubeconfig

    @property
    def audit_log(self) -> Path:
        return self.files.audit_log

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.cache.program("kubectl"), self.kubeconfig, self.home / "kubecache")

    def start(self) -> None:
        wanted = (*programs.CONTROL_PLANE, *(("kube-controller-manager",) if self.controllers else ()))
        build.ensure_programs(self.cache, wanted)
        build.ensure_packages("openssl")
        # Sockets may have paths of 107 characters at most: the folder's name is short.
        self._home = Path(tempfile.mkdtemp(prefix="celeriac-api-"))
        try:
            self._start_guard()
            self._start("etcd", flags.etcd(self.files))
            self._prepare()
            self._start_apiserver_on_a_free_port()
            if self.controllers:
                self._start_controllers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and remove its folder; safe twice."""
        if self._home is None:
            return
        guard.clean(self._home)
        if self._guard is not None:
            assert self._guard.stdin is not None  # noqa: S101 -- for the type checker: started with a pipe
            self._guard.stdin.close()
            self._guard.wait()
        self._home = self._guard = None

    def _start_guard(self) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-m", "localcluster.guard", str(self.home)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(TOOLS)},
            start_new_session=True,
        )

    def _start(self, name: str, arguments: list[str]) -> processes.Process:
        command: list[str | Path] = [self.cache.program(name), *arguments]
        return processes.start(name, command, home=self.home, log=self.files.log(name))

    def _prepare(self) -> None:
        authority = certificates.Authority.create(self.files.pki)
        authority.sign("apiserver", "/CN=kube-apiserver", ["DNS:localhost", "IP:127.0.0.1"])
        authority.service_account_keys()
        certificates.write_private(self.home / "tokens.csv", f"{self.token},admin,admin,system:masters\n")
        self.files.conf.mkdir()
        (self.files.conf / "audit-policy.json").write_text(json.dumps(flags.AUDIT_POLICY))

    def _start_apiserver_on_a_free_port(self) -> None:
        for _ in range(PORT_ATTEMPTS):
            port = free_port()
            if self._start_apiserver(port):
                return
        raise LocalClusterError(f"other programs took the port that was just free {PORT_ATTEMPTS} times in a row")

    def _start_apiserver(self, port: int) -> bool:
        """False: somebody took the port between the moment it was found free and the moment it was bound."""
        name = "kube-apiserver"
        self.server = f"https://127.0.0.1:{port}"
        config = certificates.kubeconfig(self.server, self.ca_file.read_bytes(), {"token": self.token})
        certificates.write_private(self.kubeconfig, config)
        tokens = self.home / "tokens.csv"
        arguments = flags.apiserver_alone(self.files, port=port, tokens=tokens, service_accounts=self.controllers)
        process = self._start(name, arguments)
        try:
            self._await("API server ready", "/readyz", name)
        except LocalClusterError:
            log = self.files.log(name)
            if not processes.is_running(process) and "address already in use" in log.read_text(errors="replace"):
                log.unlink()
                return False
            raise
        return True

    def _start_controllers(self) -> None:
        name = "kube-controller-manager"
        self._start(name, flags.controller_manager(self.files, self.kubeconfig, port=0))
        self._await("first service account", "/api/v1/namespaces/default/serviceaccounts/default", name)

    def _await(self, what: str, path: str, program: str) -> None:
        api = Api.of(self.kubeconfig)
        needs = ("etcd", program)
        readiness.wait_until(what, lambda: api.get(path), files=self.files, needs=needs, culprit=program)


def free_port() -> int:
    """A port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
