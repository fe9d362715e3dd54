"""How does the demo talk to the cluster? With kubectl, as a person would.

Commands run `kubectl`. What is asked often (the state of an object, a page of the shop) goes through one
`kubectl proxy` on a socket that only this user can open: it needs no port, and it keeps working when a pod is replaced.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import waiting

POOLS = "apis/celeriac.dev/v1alpha1"


class CommandError(Exception):
    """A command ended with an error; the message has the command and its output."""

    def __init__(self, command: list[str], code: int, said: str) -> None:
        self.said = said.strip()
        super().__init__(f"`{' '.join(command)}` ended with {code}: {self.said or 'it said nothing'}")


class HttpError(Exception):
    """The cluster, or something behind its proxy, answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, path: str, body: str) -> None:
        self.status = status
        super().__init__(f"{path} answered {status}: {body.strip()[:400]}")


@dataclass(frozen=True)
class Programs:
    """Where kubectl and helm are, and which cluster they talk to."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def run(self, command: list[str], stdin: str | None = None, seconds: float = 120) -> str:
        """Run a command and return what it printed.

        Raises:
            CommandError: it ended with an error, is not there, or took longer than `seconds`.
        """
        program = shutil.which(command[0], path=self.environment.get("PATH"))
        if program is None:
            raise CommandError(command, 127, f"there is no {command[0]} on the path")
        try:
            done = subprocess.run(
                [program, *command[1:]], input=stdin, capture_output=True, text=True, timeout=seconds,
                env=dict(self.environment), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CommandError(command, 124, f"no end after {seconds:g} s") from error
        if done.returncode != 0:
            raise CommandError(command, done.returncode, done.stderr or done.stdout)
        return done.stdout


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host and port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Kube:
    """One namespace of one cluster."""

    programs: Programs
    socket_path: str
    namespace: str

    def at(self, namespace: str) -> Kube:
        """Return the same cluster, another namespace."""
        return Kube(self.programs, self.socket_path, namespace)

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """Run kubectl in this namespace."""
        return self.programs.run(["kubectl", "--namespace", self.namespace, *arguments], stdin, seconds)

    def apply(self, manifest: Mapping[str, Any], *options: str) -> str:
        """Apply one object, server-side, and return what kubectl said.

        Raises:
            CommandError: the API server refused it; `said` is its message.
        """
        return self.kubectl("apply", "--server-side", *options, "-f", "-", stdin=json.dumps(manifest))

    def request(self, method: str, path: str, body: object = None) -> str:
        """Ask the cluster for `path`.

        Raises:
            HttpError: the answer's status is 400 or more.
        """
        text = None if body is None else json.dumps(body)
        while True:
            answer, content = self._ask(method, path, text)
            again = answer.getheader("Retry-After") if answer.status == 429 else None
            if again is None:
                break
            # The API server is not ready for this yet, for example for a definition that is a second old, and says
            # when to ask again. Every Kubernetes client obeys that.
            time.sleep(float(again))
        if answer.status >= 400:
            raise HttpError(answer.status, path, content)
        return content

    def _ask(self, method: str, path: str, body: str | None) -> tuple[http.client.HTTPResponse, str]:
        connection = UnixConnection(self.socket_path)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, f"/{path}", body=body, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def read(self, path: str) -> Any:
        """Read a JSON document from the cluster."""
        return json.loads(self.request("GET", path))

    def service(self, name_and_port: str, path: str, body: object = None) -> Any:
        """Ask a Service for a JSON document: GET without a body, POST with one."""
        proxied = f"api/v1/namespaces/{self.namespace}/services/{name_and_port}/proxy/{path}"
        return json.loads(self.request("GET" if body is None else "POST", proxied, body))

    def pool(self, name: str) -> Any:
        """Read a pool."""
        return self.read(f"{POOLS}/namespaces/{self.namespace}/celeryworkerpools/{name}")

    def pods(self, selector: str) -> list[Any]:
        """List the pods that carry these labels and are not leaving, by name."""
        found = self.read(f"api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}")["items"]
        here = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(here, key=lambda pod: str(pod["metadata"]["name"]))

    def pool_pods(self, name: str) -> list[Any]:
        """List a pool's pods by its own selector; none while it has not got one."""
        selector = self.pool(name).get("status", {}).get("selector")
        return self.pods(selector.replace("=", "%3D").replace(",", "%2C")) if selector else []

    def wait_ready(self, name: str, seconds: float = 90) -> None:
        """Wait until a pool is Ready and its status is about the newest generation.

        Raises:
            TimedOutError: with the pool's conditions.
        """
        waiting.until(
            f"pool {name} is Ready",
            lambda: condition_of(self.pool(name), "Ready"),
            lambda ready: ready.status == "True" and ready.is_current,
            seconds=seconds,
        )


@dataclass(frozen=True)
class Condition:
    """A condition of an object, Unknown when it has none of that type."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    is_current: bool = False  # whether it is about the object's newest generation

    def __str__(self) -> str:
        return f"{self.type}={self.status}, {self.reason}: {self.message}"


def condition_of(thing: Any, kind: str) -> Condition:
    """Return an object's condition of that type."""
    generation = thing["metadata"].get("generation")
    observed = thing.get("status", {}).get("observedGeneration")
    for each in thing.get("status", {}).get("conditions", []):
        if each["type"] == kind:
            is_current = generation == each.get("observedGeneration", observed)
            return Condition(kind, each["status"], each.get("reason", ""), each.get("message", ""), is_current)
    return Condition(kind, reason="none", message="no such condition yet")


def restarts(pods: list[Any]) -> dict[str, int]:
    """Return how often each container was restarted, by pod and container."""
    return {
        f"{pod['metadata']['name']}/{state['name']}": state["restartCount"]
        for pod in pods
        for state in pod.get("status", {}).get("containerStatuses", [])
    }


@contextlib.contextmanager
def connect(programs: Programs, namespace: str) -> Iterator[Kube]:
    """Start `kubectl proxy` and yield a namespace of the cluster; the proxy ends with the block."""
    with tempfile.TemporaryDirectory(prefix="celeriac-demo-") as folder:
        path = str(Path(folder, "api.sock"))
        program = shutil.which("kubectl", path=programs.environment.get("PATH")) or "kubectl"
        proxy = subprocess.Popen(
            [program, "proxy", f"--unix-socket={path}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=dict(programs.environment),
            start_new_session=True,  # Ctrl-C is ours to handle: what is said last still needs the cluster
        )  # fmt: skip
        try:
            waiting.until(
                "kubectl proxy listens",
                lambda: (Path(path).exists(), proxy.poll()),
                lambda seen: seen[0] or seen[1] is not None,
                seconds=15,
                every=0.05,
            )
            if proxy.poll() is not None:
                said = proxy.stderr.read() if proxy.stderr else ""
                raise CommandError(["kubectl", "proxy"], proxy.returncode, said)
            yield Kube(programs, path, namespace)
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait()
            if proxy.stderr:
                proxy.stderr.close()
