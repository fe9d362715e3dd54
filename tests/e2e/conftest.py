"""A real cluster, the images just built, and the chart, once for all promises; a fresh namespace for each."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from demo import diagnosis, install, ownership
from demo.kubernetes import Kube, connect
from demo.shop import Shop

# Set-up counts as part of the first test; the longest test waits for limits, leases and an outage one after the other.
TIMEOUT_SECONDS = 420


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add what a person needs to a failure: conditions, events, last log lines."""
    report: Any = yield
    kube = getattr(item, "funcargs", {}).get("kube")
    if report.failed and isinstance(kube, Kube):
        report.sections.append((f"namespace {kube.namespace}", diagnosis.describe(kube)))
    return report


def pytest_configure_node(node: Any) -> None:
    """Set up once, before several test processes begin: they find the cluster, the images and the chart there."""
    node.workerinput["images"] = set_up_once(node.config.pluginmanager.getplugin("capturemanager"))


@functools.cache
def set_up_once(capture: Any) -> dict[str, str]:
    """Start the cluster, build the images from this checkout, install the chart; the images' references by name.

    It may take minutes, so the progress is shown as it happens.
    """
    with capture.global_and_fixture_disabled():
        cluster = install.start_cluster()
        programs = cluster.programs
        if cluster.is_named:
            with connect(programs, install.OPERATOR_NAMESPACE) as system:
                ownership.refuse_others(system)
                ownership.mark(system)
        images = install.build_images(install.DEMO_IMAGES)
        install.install_chart(programs, images)
        return images


@pytest.fixture(scope="session")
def images(pytestconfig: pytest.Config) -> Mapping[str, str]:
    """The images, built from this checkout, by name; the cluster runs and has the chart installed."""
    if (from_controller := getattr(pytestconfig, "workerinput", None)) is not None:
        return from_controller["images"]
    return set_up_once(pytestconfig.pluginmanager.getplugin("capturemanager"))


@pytest.fixture(scope="session")
def default_namespace(images: Mapping[str, str]) -> Iterator[Kube]:
    """The cluster with the chart installed."""
    cluster = install.find_cluster()
    assert cluster, "the cluster has gone away"
    with connect(cluster.programs, "default") as kube:
        yield kube


@pytest.fixture(scope="module")
def kube(default_namespace: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace for one promise, gone with it."""
    promise = request.path.parent.name.replace("_", "-")
    here = default_namespace.at(f"e2e-{promise}-{uuid.uuid4().hex[:5]}")
    install.ensure_namespace(here)
    # Everything that the examples and the operator make is content with the strictest level; only faults are not.
    level = getattr(request.module, "POD_SECURITY", "restricted")
    here.kubectl("label", "namespace", here.namespace, f"pod-security.kubernetes.io/enforce={level}")
    yield here
    # Not waited for: nothing else uses this namespace, and the next promise has its own.
    here.kubectl("delete", "namespace", here.namespace, "--wait=false")


@pytest.fixture(scope="module")
def shop(kube: Kube, images: Mapping[str, str], request: pytest.FixtureRequest) -> Shop:
    """The examples that the module's NEEDS names, ready."""
    install.apply(kube, images, request.module.NEEDS)
    install.wait_for_all(kube)
    return Shop(kube)


@pytest.fixture
def a_pool(images: Mapping[str, str]) -> Callable[..., dict[str, Any]]:
    """A pool of the ordinary image on the namespace's Redis, as a manifest; a test gives only what matters to it."""

    def build(name: str = "reports", **spec: Any) -> dict[str, Any]:
        defaults = {
            "app": "reports:app",
            "image": images["celeriac-demo-plain"],
            "queues": ["reports"],
            "worker": {"python": ["/app/.venv/bin/python"], "concurrency": 1},
            "broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}},
            "resultBackend": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "resultUrl"}}},
        }
        return {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "CeleryWorkerPool",
            "metadata": {"name": name},
            "spec": {**defaults, **spec},
        }

    return build
