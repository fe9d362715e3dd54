"""`CELERIAC_USE_CLUSTER=1 make demo` in a cluster of somebody else: nothing that the demo did not make is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from localcluster import build
from localcluster.controlplane import ControlPlane
from localcluster.paths import CHECKOUT, TOOLS, Cache

pytestmark = pytest.mark.timeout(300)
CHART = str(CHECKOUT / "charts/celeriac")
MARK = "demo.celeriac.dev/made=true"
POOL = """
apiVersion: celeriac.dev/v1alpha1
kind: CeleryWorkerPool
metadata: {name: emails, namespace: default}
spec: {app: "shop:app", image: shop}
"""
KINDS = (
    "namespaces,deployments,secrets,serviceaccounts,configmaps,clusterroles,clusterrolebindings,"
    "customresourcedefinitions"
)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(controllers=True) as running:
        yield running


@pytest.fixture(scope="module")
def environment(control_plane: ControlPlane) -> Mapping[str, str]:
    """The shell of somebody who names their own cluster."""
    cache = Cache.default()
    build.ensure_programs(cache, ["helm", "kubectl"])
    path = f"{cache.bin}{os.pathsep}{os.environ['PATH']}"
    registry = {"CELERIAC_REGISTRY": "registry.example/me", "PYTHONPATH": str(TOOLS)}
    mine = {"CELERIAC_USE_CLUSTER": "1", "KUBECONFIG": str(control_plane.kubeconfig), "PATH": path}
    return {**os.environ, **registry, **mine}


def run(environment: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=CHECKOUT, env=dict(environment), capture_output=True, text=True, check=False, timeout=200
    )


def demo(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return run(environment, sys.executable, "-m", "demo", *words)


def objects(control_plane: ControlPlane) -> set[str]:
    """Every object of the kinds that the chart and the demo make, with the time of its last change of the spec."""
    fields = "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} "
    listed = control_plane.kubectl("get", KINDS, "-A", "-o", fields + '{.metadata.generation}{"\\n"}{end}')
    return set(listed.splitlines())


@pytest.mark.parametrize(
    ("release", "namespace"),
    [
        pytest.param("celeriac", "celeriac-system", id="under the demo's own names"),
        pytest.param("workers", "platform", id="under other names"),
    ],
)
def test_a_celeriac_of_somebody_else_is_neither_upgraded_nor_removed(
    control_plane: ControlPlane, environment: Mapping[str, str], release: str, namespace: str
) -> None:
    named = ("--namespace", namespace)
    done = run(environment, "helm", "install", release, CHART, *named, "--create-namespace", "--set=crds.keep=false")
    assert done.returncode == 0, done.stderr
    control_plane.kubectl("wait", "--for=condition=Established", "crd/celeryworkerpools.celeriac.dev", "--timeout=60s")
    control_plane.kubectl("apply", "-f", "-", input=POOL)
    before = objects(control_plane)
    up = demo(environment, "up")
    assert up.returncode == 1
    assert f"an operator, deployment {release} in namespace {namespace}".replace(" workers ", " workers-celeriac ") in (
        up.stderr
    )
    assert "which the demo did not make, and would upgrade and later remove" in up.stderr
    down = demo(environment, "down")
    assert down.returncode == 0, down.stderr
    assert "nothing that the demo made" in down.stderr
    assert objects(control_plane) >= before
    assert "emails" in control_plane.kubectl("get", "cwp", "-o", "name")
    control_plane.kubectl("delete", "cwp", "--all")
    assert run(environment, "helm", "uninstall", release, *named, "--wait").returncode == 0
    control_plane.kubectl("delete", "namespace", namespace)


def test_a_namespace_of_somebody_else_with_a_name_of_the_demos_is_not_used(
    control_plane: ControlPlane, environment: Mapping[str, str]
) -> None:
    control_plane.kubectl("create", "namespace", "celeriac-demo")
    up = demo(environment, "up")
    assert up.returncode == 1
    assert "this cluster has the namespace celeriac-demo, which the demo did not make" in up.stderr
    assert demo(environment, "down").returncode == 0
    control_plane.kubectl("delete", "namespace", "celeriac-demo")


def test_what_the_demo_made_is_taken_up_again_and_removed(
    control_plane: ControlPlane, environment: Mapping[str, str]
) -> None:
    for namespace in ("celeriac-demo", "celeriac-system"):
        control_plane.kubectl("create", "namespace", namespace)
        control_plane.kubectl("annotate", "namespace", namespace, MARK)
    control_plane.kubectl("create", "namespace", "other")
    done = run(environment, "helm", "install", "celeriac", CHART, "--namespace", "celeriac-system")
    assert done.returncode == 0, done.stderr
    # Nothing is refused: the first thing that goes wrong is that nobody can push to this registry, or a pod starts.
    check = (
        "import sys; from demo import install, ownership; from demo.kubernetes import connect\n"
        "with connect(install.find_cluster().programs, 'celeriac-demo') as kube: ownership.refuse_others(kube)"
    )
    allowed = run(environment, sys.executable, "-c", check)
    assert allowed.returncode == 0, allowed.stderr
    down = demo(environment, "down")
    assert down.returncode == 0, down.stderr
    left = control_plane.kubectl("get", "namespaces", "-o", "name").split()
    assert "namespace/other" in left
    assert {"namespace/celeriac-demo", "namespace/celeriac-system"}.isdisjoint(left)
    assert "celeryworkerpools" not in control_plane.kubectl("get", "customresourcedefinitions", "-o", "name")
