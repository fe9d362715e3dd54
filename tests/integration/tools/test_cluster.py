"""The embedded cluster does what a cluster does: names, services, exec, logs, probes; and nothing leaves it."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
import urllib.request
from typing import Any

import pytest
from tests.integration.tools.machine import Machine

from localcluster.embedded import Embedded
from localcluster.errors import CommandError
from localcluster.paths import Cache

pytestmark = pytest.mark.cluster

NAMESPACE = "proof"
SERVE = "import http.server as h; h.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()"
# The first start fails its liveness probe after two seconds, by design; the second lives.
FORGETFUL = """
import pathlib, time
first = not pathlib.Path("/state/seen").exists()
pathlib.Path("/state/seen").touch()
pathlib.Path("/state/alive").touch()
if first:
    time.sleep(2)
    pathlib.Path("/state/alive").unlink()
time.sleep(600)
"""
IS_ALIVE = ["python", "-c", "import os; os.stat('/state/alive')"]
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, image: str, code: str, **container: Any) -> dict[str, Any]:
    """A pod as strict as Pod Security's level `restricted` asks for, running some Python."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "state", "emptyDir": {}}],
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "Never",
                    "command": ["python", "-u", "-c", code],
                    "securityContext": RESTRICTED,
                    "volumeMounts": [{"name": "state", "mountPath": "/state"}],
                    **container,
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def pods(cluster: Machine) -> Machine:
    """A web server with a service, a client, and a pod that fails its liveness probe once."""
    image = cluster.images("celeriac-worker")["celeriac-worker"]
    kubectl = cluster.kubectl
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    readiness = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    liveness = {"exec": {"command": IS_ALIVE}, "periodSeconds": 1, "failureThreshold": 2}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": level}},
        service,
        pod("web", image, SERVE, readinessProbe=readiness, workingDir="/opt/celeriac"),
        pod("client", image, "print('hello from the log'); import time; time.sleep(600)"),
        pod("forgetful", image, FORGETFUL, livenessProbe=liveness),
    ]
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=40s")
    return cluster


def run(cluster: Machine, code: str) -> str:
    """Run some Python in the client pod."""
    return cluster.kubectl("-n", NAMESPACE, "exec", "client", "--", "python", "-c", code).strip()


def test_up_again_says_so_at_once(cluster: Machine) -> None:
    started = time.monotonic()
    assert "the cluster is up" in cluster("up")
    assert time.monotonic() - started < 5


def test_the_node_is_ready_and_what_it_says_it_is(cluster: Machine) -> None:
    node = json.loads(cluster.kubectl("get", "node", "local", "-o", "json"))
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.35.")
    assert cluster.status()["nodes"] == {"local": True}


def test_a_pod_reaches_a_service_by_its_name(pods: Machine) -> None:
    address = f"http://web.{NAMESPACE}.svc.cluster.local/pyvenv.cfg"
    code = f"import urllib.request as u; print(u.urlopen('{address}', timeout=5).read().decode())"
    assert "include-system-site-packages" in run(pods, code)


def test_a_pod_reaches_itself_through_its_own_service(pods: Machine) -> None:
    code = f"import urllib.request as u; print(u.urlopen('http://web.{NAMESPACE}.svc/', timeout=5).status)"
    assert pods.kubectl("-n", NAMESPACE, "exec", "web", "--", "python", "-c", code).strip() == "200"


def test_names_outside_the_cluster_do_not_exist(pods: Machine) -> None:
    with pytest.raises(CommandError, match="Name or service not known"):
        run(pods, "import socket; socket.getaddrinfo('example.org', 80)")


def test_a_pod_reaches_nothing_beyond_the_machine_and_learns_so_at_once(pods: Machine) -> None:
    code = """
import socket, time
for number in range(1, 30):
    began = time.monotonic()
    try:
        socket.create_connection((f"198.51.100.{number}", 80), 5)
    except ConnectionRefusedError:
        assert time.monotonic() - began < 1
print("refused")
"""
    assert run(pods, code) == "refused"


def test_the_machine_reaches_a_cluster_ip(pods: Machine) -> None:
    address = pods.kubectl("-n", NAMESPACE, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/", timeout=5) as answer:
        assert answer.status == 200


def test_logs_come_through_the_api_server(pods: Machine) -> None:
    assert "hello from the log" in pods.kubectl("-n", NAMESPACE, "logs", "client")


def test_port_forward(pods: Machine) -> None:
    with subprocess.Popen(
        [pods.kubectl.program, "-n", NAMESPACE, "port-forward", "service/web", ":80"],
        env=pods.kubectl.env,
        stdout=subprocess.PIPE,
        text=True,
    ) as forward:
        assert forward.stdout is not None
        try:
            assert select.select([forward.stdout], [], [], 20)[0], "kubectl port-forward said nothing for 20 s"
            port = int(forward.stdout.readline().split(" -> ")[0].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert b"200 OK" in connection.recv(100)
        finally:
            forward.terminate()


def test_a_failed_liveness_probe_restarts_the_container(pods: Machine) -> None:
    restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1"
    pods.kubectl("-n", NAMESPACE, "wait", f"--for={restarted}", "pod/forgetful", "--timeout=40s")
    events = pods.kubectl("-n", NAMESPACE, "events", "--for=pod/forgetful")
    assert "Liveness probe failed" in events


def test_strict_tls_to_the_api_server_from_a_pod(pods: Machine) -> None:
    """Python 3.13 refuses certificates that older clients accept."""
    code = """
import ssl, urllib.request as u
d = "/var/run/secrets/kubernetes.io/serviceaccount/"
r = u.Request("https://kubernetes.default.svc/version", headers={"Authorization": "Bearer " + open(d + "token").read()})
print(u.urlopen(r, context=ssl.create_default_context(cafile=d + "ca.crt"), timeout=5).status)
"""
    assert run(pods, code) == "200"


def test_a_pod_may_not_use_the_api_without_a_role(pods: Machine) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:default"
    assert pods.kubectl("auth", "can-i", "list", "secrets", "-n", NAMESPACE, account, check=False).strip() == "no"


def test_pod_security_admission_refuses_what_the_namespace_forbids(pods: Machine) -> None:
    wrong = pod("wrong", "none", "", securityContext={"privileged": True})
    with pytest.raises(CommandError, match='violates PodSecurity "restricted:latest": privileged'):
        pods.kubectl("apply", "-f", "-", input=json.dumps(wrong))


def test_an_image_that_does_not_exist_fails_at_once_and_says_so(pods: Machine) -> None:
    absent = pod("absent", "localhost/absent:1", "", imagePullPolicy="IfNotPresent")
    pods.kubectl("apply", "-f", "-", input=json.dumps(absent))
    waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull"
    pods.kubectl("-n", NAMESPACE, "wait", f"--for={waiting}", "pod/absent", "--timeout=20s")
    assert 'Failed to pull image "localhost/absent:1"' in pods.kubectl("-n", NAMESPACE, "events", "--for=pod/absent")
    pods.kubectl("-n", NAMESPACE, "delete", "pod", "absent", "--wait=false")


def test_images_that_are_there_are_not_imported_again(cluster: Machine) -> None:
    cluster.images("celeriac-worker")
    started = time.monotonic()
    assert "importing" not in cluster("images", "celeriac-worker")
    assert time.monotonic() - started < 3


def test_every_write_is_in_the_audit_log(cluster: Machine) -> None:
    cluster.kubectl("create", "configmap", "audited")
    entries = [json.loads(line) for line in (cluster.home / "audit.log").read_text().splitlines()]
    creations = [it for it in entries if it["verb"] == "create" and it["objectRef"].get("name") == "audited"]
    assert [it["responseStatus"]["code"] for it in creations] == [201]


@pytest.mark.timeout(600)
def test_fake_nodes_run_pods(cluster: Machine) -> None:
    """kwok is built when it is first asked for; the shared cache has it after that."""
    cluster("kwok", "3")
    kubectl = cluster.kubectl
    assert len(kubectl("get", "nodes", "-l", "type=kwok", "-o", "name").split()) == 3
    deployment = json.loads(
        kubectl("create", "deployment", "fake", "--image=none", "--replicas=5", "--dry-run=client", "-o", "json")
    )
    deployment["spec"]["template"]["spec"] |= {
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    }
    kubectl("apply", "-f", "-", input=json.dumps(deployment))
    kubectl("rollout", "status", "deployment/fake", "--timeout=40s")
    kubectl("delete", "deployment", "fake")
    cluster("kwok", "0")
    assert kubectl("get", "nodes", "-l", "type=kwok", "-o", "name") == ""


def test_a_second_cluster_runs_beside_the_first(cluster: Machine, machine: Machine) -> None:
    machine("up")
    first, second = cluster.status(), machine.status()
    assert first["up"]
    assert second["up"]
    assert first["server"] != second["server"]
    machine.kubectl("create", "namespace", "only-in-the-second")
    assert "only-in-the-second" not in cluster.kubectl("get", "namespaces", "-o", "name")
    machine("down")
    assert cluster.status()["up"]
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_home_with_something_else_in_it_is_left_alone(machine: Machine) -> None:
    machine.home.mkdir()
    (machine.home / "thesis.txt").write_text("do not lose")
    assert "holds something else than a cluster" in machine("up", code=1)
    assert "holds something else than a cluster" in machine("down", code=1)
    assert (machine.home / "thesis.txt").read_text() == "do not lose"
    (machine.home / "thesis.txt").unlink()
    machine.home.rmdir()


def test_the_provider_in_use_is_the_embedded_one(cluster: Machine) -> None:
    assert Embedded(Cache.default()).name == cluster.status()["provider"]
