"""A real API server with the CRD, and the operator's own account in it."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.operator.machine import CRD, RULES, Api, Operator, Place, running_operator
from tests.integration.operator.rabbitmq import RabbitMQServer
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(controllers=True) as running:
        running.kubectl("apply", "--server-side", "-f", str(CRD))
        # Not kubectl wait: on a CRD whose conditions are not there yet it gives up at once.
        eventually(Api(running).serves_pools, what="CRD")
        yield running


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Api:
    return Api(control_plane)


@pytest.fixture
def place(api: Api) -> Place:
    """A fresh namespace."""
    namespace = f"test-{next(_numbers)}"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    eventually(lambda: _there(api, account), what="service account")
    return Place(api=api, namespace=namespace)


def _there(api: Api, path: str) -> bool:
    listed = api.request("GET", path.rpartition("/")[0])
    return any(item["metadata"]["name"] == path.rpartition("/")[2] for item in listed["items"])


def kubeconfig_of(control_plane: ControlPlane, api: Api, account: str, folder: Path) -> Path:
    """A kubeconfig for an account of the namespace celeriac."""
    path = f"/api/v1/namespaces/celeriac/serviceaccounts/{account}/token"
    token = api.request("POST", path, {"spec": {}})["status"]["token"]
    kubeconfig = folder / f"{account}.kubeconfig"
    authority = base64.b64encode(control_plane.ca_file.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [
            {"name": "x", "cluster": {"server": control_plane.server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "x", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    kubeconfig.write_text(json.dumps(config))
    return kubeconfig


@pytest.fixture(scope="session")
def kubeconfig(control_plane: ControlPlane, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """How the operator reaches the API server: with its own permissions, no more."""
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "celeriac"}})
    api.request("POST", "/api/v1/namespaces/celeriac/serviceaccounts", {"metadata": {"name": "operator"}})
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    api.request("POST", f"{rbac}/clusterroles", {"metadata": {"name": "celeriac"}, "rules": RULES})
    binding = {
        "metadata": {"name": "celeriac"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "celeriac"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": "celeriac"}],
    }
    api.request("POST", f"{rbac}/clusterrolebindings", binding)
    return kubeconfig_of(control_plane, api, "operator", tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def operator(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator, for all tests of a module."""
    with running_operator(kubeconfig, tmp_path_factory.mktemp("log")) as process:
        yield process
        assert process.stopped or process.process.poll() is None, process.text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    directory = tmp_path / "redis"
    directory.mkdir()
    it = RedisServer(directory, appendonly="no").start()
    yield it
    it.kill()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    """One for all tests: it takes many seconds to start."""
    server = RabbitMQServer(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server.start()
    finally:
        server.stop()
