"""kind: Kubernetes in Docker, for machines where Docker works. On macOS this is the only provider."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster import build, programs
from localcluster.errors import CommandError
from localcluster.kubectl import Kubectl
from localcluster.paths import Cache
from localcluster.progress import say, step

CLUSTER = "celeriac"


def create(kubeconfig: Path) -> list[str]:
    """(pure) The command line that starts a cluster; kubeconfig is a file of ours, the person's own is left alone."""
    return ["kind", "create", "cluster", f"--name={CLUSTER}", f"--kubeconfig={kubeconfig}", "--wait=120s"]


def delete(kubeconfig: Path) -> list[str]:
    """(pure)"""
    return ["kind", "delete", "cluster", f"--name={CLUSTER}", f"--kubeconfig={kubeconfig}"]


def load(images: list[str]) -> list[str]:
    """(pure) The command line that brings Docker's images in; kind leaves out those that the node has."""
    return ["kind", "load", "docker-image", f"--name={CLUSTER}", *images]


class Kind:
    name = "kind"
    image_prefix = "localhost"

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.kubeconfig = cache.root / "kind" / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self._program("kubectl"), self.kubeconfig, self.cache.root / "kubecache")

    @property
    def helm(self) -> Path:
        return self._program("helm")

    def up(self) -> None:
        if self.is_up():
            say("the kind cluster is up")
            return
        needed = ("kind", *programs.CLIENTS)
        build.ensure_programs(self.cache, [name for name in needed if not shutil.which(name)])
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if CLUSTER in self._run(["kind", "get", "clusters"]).split():
            self._run(delete(self.kubeconfig))  # it is there and does not answer
        with step("starting Kubernetes in Docker with kind", "Ready"):
            self._run(create(self.kubeconfig))

    def down(self) -> None:
        if not self.kubeconfig.exists():
            say("no cluster is running here")
            return
        with step("stopping the kind cluster", "gone"):
            self._run(delete(self.kubeconfig))

    def is_up(self) -> bool:
        return self.kubeconfig.exists() and self.kubectl("get", "--raw", "/readyz", check=False) == "ok"

    def status(self) -> dict[str, Any]:
        up = self.is_up()
        state = "up" if up else "down"
        return {"provider": self.name, "up": up, "state": state, "kubeconfig": str(self.kubeconfig)}

    def load(self, images: Mapping[str, Path | None]) -> list[str]:
        if images:
            with step(f"loading {len(images)} image(s) into kind"):
                self._run(load(list(images)))
        return list(images)

    def _program(self, name: str) -> Path:
        found = shutil.which(name)
        return Path(found) if found else self.cache.program(name)

    def _run(self, command: list[str]) -> str:
        done = subprocess.run([self._program(command[0]), *command[1:]], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout
