"""Which cluster is used: one that the person names, else kind where Docker works, else the embedded one.

Every provider has the same few properties and methods, so that the demo and the tests need not know which it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from localcluster import build, programs
from localcluster.embedded import Embedded
from localcluster.errors import LocalClusterError
from localcluster.kind import Kind
from localcluster.kubectl import Kubectl
from localcluster.paths import Cache
from localcluster.progress import say


class Provider(Protocol):
    """A cluster, running or not."""

    @property
    def name(self) -> str: ...
    @property
    def kubeconfig(self) -> Path: ...
    @property
    def kubectl(self) -> Kubectl: ...
    @property
    def helm(self) -> Path: ...
    @property
    def image_prefix(self) -> str:
        """What the names of images built here begin with, such as `localhost`."""
        ...

    def up(self) -> None:
        """Start it, unless it runs; returns when pods can run and find each other by name."""
        ...

    def down(self) -> None: ...
    def is_up(self) -> bool: ...
    def status(self) -> dict[str, Any]: ...
    def load(self, images: Mapping[str, Path | None]) -> list[str]:
        """Bring these images in (name -> archive, None where Docker holds it); returns those that were missing."""
        ...


class Named:
    """A cluster that the person names. It is used, never started or stopped."""

    name = "named"

    def __init__(self, cache: Cache, environ: Mapping[str, str]) -> None:
        self.cache = cache
        self.kubeconfig = Path(environ["KUBECONFIG"])
        self._registry = environ.get("CELERIAC_REGISTRY", "").rstrip("/")

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(client(self.cache, "kubectl"), self.kubeconfig, self.cache.root / "kubecache")

    @property
    def helm(self) -> Path:
        return client(self.cache, "helm")

    @property
    def image_prefix(self) -> str:
        if not self._registry:
            raise LocalClusterError(
                "a cluster that you name gets its images from a registry: set CELERIAC_REGISTRY to one that you can"
                " push to and the cluster can pull from, such as CELERIAC_REGISTRY=registry.example/me"
            )
        return self._registry

    def up(self) -> None:
        build.ensure_programs(self.cache, [name for name in programs.CLIENTS if not shutil.which(name)])
        self.kubectl("get", "--raw", "/readyz")
        say(f"using the cluster of {self.kubeconfig}")

    def down(self) -> None:
        say("a cluster that you name is left alone")

    def is_up(self) -> bool:
        return self.kubectl("get", "--raw", "/readyz", check=False) == "ok"

    def status(self) -> dict[str, Any]:
        up = self.is_up()
        state = "up" if up else "does not answer"
        return {"provider": self.name, "up": up, "state": state, "kubeconfig": str(self.kubeconfig)}

    def load(self, images: Mapping[str, Path | None]) -> list[str]:
        """Says how to push what is new on this machine; the cluster pulls by itself."""
        for name, archive in images.items():
            how = f"skopeo copy oci-archive:{archive} docker://{name}" if archive else f"docker push {name}"
            say(f"unless your cluster's registry has it: {how}")
        return []


def docker_works() -> bool:
    """Whether there is an engine behind the `docker` command, not only the command."""
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def choose(environ: Mapping[str, str], *, has_docker: bool, embedded_runs: bool = False) -> str:
    """(pure) `named`, `kind` or `embedded`."""
    if environ.get("CELERIAC_USE_CLUSTER") == "1":
        if not environ.get("KUBECONFIG"):
            raise LocalClusterError("CELERIAC_USE_CLUSTER=1 needs KUBECONFIG too: the file that names your cluster")
        return "named"
    wanted = environ.get("CELERIAC_PROVIDER")
    if wanted in {"kind", "embedded"}:
        return wanted
    if wanted:
        raise LocalClusterError(f"CELERIAC_PROVIDER is {wanted!r}; it may be kind or embedded")
    # Docker that was started later does not make us forget the cluster that runs.
    return "kind" if has_docker and not embedded_runs else "embedded"


def current(cache: Cache | None = None) -> Provider:
    """The provider for this machine and its environment."""
    cache = cache or Cache.default()
    embedded = Embedded(cache)
    # Docker is asked only if needed: it takes a moment, and much longer if it hangs.
    runs = embedded.home.exists()
    asked = runs or bool(os.environ.get("CELERIAC_USE_CLUSTER") or os.environ.get("CELERIAC_PROVIDER"))
    match choose(os.environ, has_docker=not asked and docker_works(), embedded_runs=runs):
        case "named":
            return Named(cache, os.environ)
        case "kind":
            return Kind(cache)
        case _:
            return embedded


def client(cache: Cache, name: str) -> Path:
    """kubectl or helm: the machine's own, else the one built here."""
    found = shutil.which(name)
    return Path(found) if found else cache.program(name)


def environment(provider: Provider, cache: Cache, path: str) -> dict[str, str]:
    """(pure) Variables with which a shell's kubectl and helm use this cluster and do not write to the home folder."""
    helm = cache.root / "helm"
    return {
        "KUBECONFIG": str(provider.kubeconfig),
        "KUBECACHEDIR": provider.kubectl.env["KUBECACHEDIR"],
        "HELM_CACHE_HOME": str(helm / "cache"),
        "HELM_CONFIG_HOME": str(helm / "config"),
        "HELM_DATA_HOME": str(helm / "data"),
        "PATH": path if str(cache.bin) in path.split(os.pathsep) else f"{cache.bin}{os.pathsep}{path}",
    }
