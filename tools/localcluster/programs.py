"""(pure) Which programs a cluster needs, and what each is built from.

Every program comes from its Go module with a plain `go build`. Each module gets a generated go.mod of its own, so that
the requirements of one never move the dependencies of another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

KUBERNETES = "v1.35.4"
GO_LEAST = (1, 26)  # etcd 3.6.16 asks for it in its own go.mod

# CoreDNS has more than fifty plugins, some with a cloud provider's whole library behind them. These are the ones that
# the cluster's Corefile uses; the order in which plugins run is CoreDNS' own and does not depend on this list.
COREDNS_PLUGINS = ("cache", "errors", "health", "kubernetes", "ready", "template")

PAUSE_SOURCE = """\
// The sandbox container of every pod, and the first process of the cluster's own process namespace:
// it reaps what is orphaned and leaves when asked to.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			os.Exit(0)
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
}
"""


def coredns_source(plugins: Iterable[str] = COREDNS_PLUGINS) -> str:
    imports = "".join(f'\t_ "github.com/coredns/coredns/plugin/{name}"\n' for name in sorted(plugins))
    return (
        'package main\n\nimport (\n\t"github.com/coredns/coredns/coremain"\n'
        f"{imports})\n\nfunc main() {{\n\tcoremain.Run()\n}}\n"
    )


@dataclass(frozen=True)
class Module:
    """A Go module that programs are built from; `name` is its folder in the cache."""

    name: str
    path: str = ""  # empty: our own source, which needs nothing but the standard library
    version: str = ""
    staging: bool = False  # Kubernetes: its staging modules need a `replace` list (see `replacements`)
    source: str = ""  # main.go, where the program's main package is ours


@dataclass(frozen=True)
class Program:
    name: str
    module: Module
    package: str = "."
    variables: tuple[tuple[str, str], ...] = ()  # set at link time with -X, mostly the version

    @property
    def ldflags(self) -> str:
        return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in self.variables)])


def _kubernetes_version() -> tuple[tuple[str, str], ...]:
    # Without these a program calls itself v0.0.0-master; client-go keeps a copy of its own.
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    return tuple(
        (f"{package}.{name}", value)
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in (
            ("gitVersion", KUBERNETES),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("gitCommit", "go-module"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        )
    )


def _all() -> dict[str, Program]:
    kubernetes = Module("kubernetes", "k8s.io/kubernetes", KUBERNETES, staging=True)
    etcd = Module("etcd", "go.etcd.io/etcd/server/v3", "v3.6.16")
    coredns = Module("coredns", "github.com/coredns/coredns", "v1.15.0", source=coredns_source())
    helm = Module("helm", "helm.sh/helm/v4", "v4.3.1")
    kwok = Module("kwok", "sigs.k8s.io/kwok", "v0.8.0")
    kind = Module("kind", "sigs.k8s.io/kind", "v0.33.0")
    keda = Module("keda", "github.com/kedacore/keda/v2", "v2.21.0")
    names = ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    programs = [
        Program("pause", Module("pause", source=PAUSE_SOURCE)),
        Program("etcd", etcd, etcd.path),
        *(Program(name, kubernetes, f"k8s.io/kubernetes/cmd/{name}", _kubernetes_version()) for name in names),
        Program("coredns", coredns),
        Program("helm", helm, "helm.sh/helm/v4/cmd/helm", ((f"{helm.path}/internal/version.version", helm.version),)),
        Program("kwok", kwok, "sigs.k8s.io/kwok/cmd/kwok", (("sigs.k8s.io/kwok/pkg/consts.Version", kwok.version),)),
        Program("kind", kind, "sigs.k8s.io/kind"),
        Program("keda-operator", keda, f"{keda.path}/cmd/operator", ((f"{keda.path}/version.Version", keda.version),)),
    ]
    return {program.name: program for program in programs}


PROGRAMS = _all()
CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
CLIENTS = ("kubectl", "helm")
CLUSTER = tuple(name for name in PROGRAMS if name not in {"kwok", "kind", "keda-operator"})


def replacements(upstream_go_mod: str, kubernetes_version: str) -> dict[str, str]:
    """The staging modules and their published version.

    Kubernetes requires them at v0.0.0 and replaces them with folders of its own repository. A `replace` counts only in
    the main module, which is ours, so ours has to name the published versions. The list is read from Kubernetes' own
    go.mod: it changes from release to release.
    """
    published = re.sub(r"^v1\.", "v0.", kubernetes_version)
    names = re.findall(r"^\s*(?:require\s+)?(k8s\.io/\S+)\s+v0\.0\.0(?:\s|$)", upstream_go_mod, re.MULTILINE)
    return dict.fromkeys(names, published)


def go_mod(module: Module, replace: dict[str, str]) -> str:
    lines = [f"module local/{module.name}", "", "go 1.25.0"]
    if module.staging:
        lines += ["", "godebug default=go1.25"]  # as in Kubernetes' own go.mod, where it does not count for us either
    if module.path:
        lines += ["", f"require {module.path} {module.version}"]
    if replace:
        lines += ["", "replace (", *(f"\t{name} => {name} {version}" for name, version in replace.items()), ")"]
    return "\n".join(lines) + "\n"


def stamp(program: Program) -> str:
    """What a built program says of itself: another text means that it has to be built again."""
    source = hashlib.sha256(program.module.source.encode()).hexdigest()[:16] if program.module.source else "-"
    return (
        f"module {program.module.path or 'local'} {program.module.version or '-'}\n"
        f"package {program.package}\nldflags {program.ldflags}\nsource {source}\n"
    )


def missing(wanted: Iterable[str], stamps: dict[str, str]) -> list[Program]:
    """Of the wanted programs, those to build, in the table's order: one module after the other."""
    names = set(wanted)
    unknown = names - PROGRAMS.keys()
    if unknown:
        raise ValueError(f"no such program: {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    return [program for name, program in PROGRAMS.items() if name in names and stamps.get(name) != stamp(program)]
