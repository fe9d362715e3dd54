"""The control plane for integration tests is real, private, and gone afterwards, also when its starter was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import eventually

from localcluster import processes
from localcluster.controlplane import ControlPlane
from localcluster.errors import CommandError
from localcluster.paths import TOOLS

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "owner", "namespace": "default"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "x", "image": "none"}]},
        },
    },
}


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(controllers=True) as running:
        yield running


def test_server_side_apply_names_the_field_that_is_wrong(control_plane: ControlPlane) -> None:
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicas": -1}}
    with pytest.raises(CommandError, match=r"spec\.replicas.*greater than or equal to 0"):
        control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(wrong))


def test_owned_objects_are_collected(control_plane: ControlPlane) -> None:
    kubectl = control_plane.kubectl
    kubectl("apply", "-f", "-", input=json.dumps(DEPLOYMENT))
    kubectl("wait", "--for=create", "replicaset", "-l", "app=x", "--timeout=20s")
    kubectl("delete", "deployment", "owner")
    kubectl("wait", "--for=delete", "replicaset", "-l", "app=x", "--timeout=20s")
    assert kubectl("get", "replicaset", "-o", "name") == ""


def test_rbac_is_on(control_plane: ControlPlane) -> None:
    answer = control_plane.kubectl(
        "auth", "can-i", "create", "secrets", "--as=system:serviceaccount:default:default", check=False
    )
    assert answer.strip() == "no"


def test_every_write_is_in_the_audit_log_without_its_body(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "secret", "generic", "hush", "--from-literal=word=xyzzy-in-the-secret")
    entries = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    writes = [it for it in entries if it["verb"] == "create" and it["objectRef"].get("name") == "hush"]
    assert len(writes) == 1
    assert "xyzzy" not in control_plane.audit_log.read_text()


def test_two_at_once_share_nothing(control_plane: ControlPlane) -> None:
    with ControlPlane() as second:
        second.kubectl("create", "namespace", "only-here")
        assert "only-here" not in control_plane.kubectl("get", "namespaces", "-o", "name")
        home = second.home
    assert not home.exists()
    assert processes.running(home) == []


def test_nothing_is_left_when_the_starter_is_killed() -> None:
    program = "from localcluster.controlplane import ControlPlane as C; c = C(); c.start(); print(c.home); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        text=True,
    ) as starter:
        assert starter.stdout is not None
        home = Path(starter.stdout.readline().strip())
        assert {process.name for process in processes.running(home)} == {"etcd", "kube-apiserver"}
        starter.send_signal(signal.SIGKILL)
    eventually(
        lambda: (processes.running(home), home.exists()),
        lambda seen: seen == ([], False),
        timeout=10,
        what="all is gone",
    )
