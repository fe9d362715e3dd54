"""Starting, stopping, killing, upgrading: what was right stays as it is. Each test runs operators of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operator.conftest import kubeconfig_of
from tests.integration.operator.machine import RULES, Api, Operator, Place, audit, running_operator, writes
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac_operator import labels
from localcluster.controlplane import ControlPlane

SPECS: list[dict[str, Any]] = [
    {},
    {"replicas": 2, "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}, "queues": ["a", "b"]},
    {"sentry": {"dsn": "https://key@sentry.example/1"}, "suspend": True},
    {
        "broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}},
        "template": {
            "spec": {
                "hostNetwork": False,
                "tolerations": [],
                "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1000Mi"}}],
                "topologySpreadConstraints": [
                    {
                        "topologyKey": "zone",
                        "maxSkew": 1,
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"a": "b"}},
                    }
                ],
                "containers": [
                    {"name": "worker", "resources": {"requests": {"cpu": "0.5"}}, "stdin": False},
                    {"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 80}]},
                ],
            }
        },
    },
]


def settle(place: Place) -> dict[str, Any]:
    """Every kind of pool, reconciled; returns what must stay as it is."""
    place.secret("redis", url="redis://redis")
    for number, spec in enumerate(SPECS):
        place.pool(f"pool-{number}", **spec)
        place.await_deployment(
            lambda seen: seen.get("status", {}).get("observedGeneration") is not None, f"pool-{number}"
        )
    return templates(place)


def templates(place: Place) -> dict[str, Any]:
    return {
        each["metadata"]["name"]: (each["metadata"]["uid"], each["spec"])
        for each in place.api.list("Deployment", place.namespace)
    }


def quiet(operator: Operator, control_plane: ControlPlane) -> list[str]:
    """Wait until a second passes in which the operator writes nothing; returns its writes so far."""
    before: list[str] = []
    while True:
        operator.idle()
        now = writes(control_plane)
        if len(now) == len(before):
            return now
        before = now
        time.sleep(2.5)  # the time itself counts: minor changes of a status wait for two seconds


def test_a_restart_writes_nothing(place: Place, kubeconfig: Path, control_plane: ControlPlane, tmp_path: Path) -> None:
    with running_operator(kubeconfig, tmp_path) as first:
        before = settle(place)
        done = quiet(first, control_plane)
        assert first.stop() == 0
    with running_operator(kubeconfig, tmp_path) as second:
        eventually(
            lambda: second.metric("celeriac_operator_reconciles_total"), lambda n: n >= len(SPECS), what="first passes"
        )
        assert quiet(second, control_plane) == done
    assert templates(place) == before


def test_idling_and_comparing_write_nothing(
    place: Place, kubeconfig: Path, control_plane: ControlPlane, tmp_path: Path
) -> None:
    with running_operator(kubeconfig, tmp_path, CELERIAC_RESYNC_SECONDS="1") as operator:
        settle(place)
        done = quiet(operator, control_plane)
        passes = operator.metric("celeriac_operator_reconciles_total")
        eventually(
            lambda: operator.metric("celeriac_operator_reconciles_total"),
            lambda now: now >= passes + 3 * len(SPECS),
            what="three rounds of passes",
        )
        assert writes(control_plane) == done
        assert operator.metric("celeriac_operator_watch_missed_total") == 0


@pytest.mark.timeout(180)  # waits for silence several times, on a busy machine too
@pytest.mark.parametrize(
    ("replicas", "budgets"), [pytest.param(1, 0, id="of one worker"), pytest.param(2, 1, id="of two workers")]
)
def test_a_pool_costs_one_write_for_each_object_and_one_status_for_each_state(
    place: Place, kubeconfig: Path, control_plane: ControlPlane, tmp_path: Path, replicas: int, budgets: int
) -> None:
    with running_operator(kubeconfig, tmp_path) as operator:
        before = len(quiet(operator, control_plane))
        started = time.monotonic()
        place.pool(replicas=replicas)
        place.make_ready(place.await_pods(replicas))
        place.await_reason("Ready", "True Ready")
        seconds = time.monotonic() - started
        lines = [line.split("?")[0].removeprefix("patch ") for line in quiet(operator, control_plane)[before:]]
    told = f"create /api/v1/namespaces/{place.namespace}/events"
    made = [line for line in lines if line != told]
    assert len(lines) - len(made) <= 2, "an event when it is created, and one when it is rolled out"
    pool = f"/apis/celeriac.dev/v1alpha1/namespaces/{place.namespace}/celeryworkerpools/emails/status"
    objects = [
        f"/apis/apps/v1/namespaces/{place.namespace}/deployments/emails",
        *[f"/apis/policy/v1/namespaces/{place.namespace}/poddisruptionbudgets/emails"] * budgets,
    ]
    assert made[: len(objects)] == objects
    states = len(made) - len(objects)
    assert made[len(objects) :] == [pool] * states
    # The start, the readiness, and at most one in between for every two seconds that the pods took.
    assert 2 <= states <= 2 + seconds / 2, f"{states} states in {seconds:.1f} s"


def test_a_kill_at_any_moment_changes_nothing_that_was_right(place: Place, kubeconfig: Path, tmp_path: Path) -> None:
    with running_operator(kubeconfig, tmp_path):
        before = settle(place)
    for moment in range(6):
        with running_operator(kubeconfig, tmp_path, await_start=moment > 2) as operator:
            place.pool(f"new-{moment}")
            if moment % 3:
                eventually(lambda name=f"new-{moment}": place.get("Deployment", name), what="Deployment")
            operator.stop(signal.SIGKILL)
    with running_operator(kubeconfig, tmp_path):
        for moment in range(6):
            place.await_deployment(name=f"new-{moment}")
            place.await_reason("Ready", "False Progressing", f"new-{moment}")
    after = templates(place)
    assert {name: after[name] for name in before} == before


def test_an_upgrade_of_the_operator_restarts_nobody_until_the_pool_changes_or_a_person_asks(
    place: Place, kubeconfig: Path, tmp_path: Path
) -> None:
    def library(name: str) -> Callable[[dict[str, Any]], bool]:
        def runs(deployment: dict[str, Any]) -> bool:
            found = deployment["spec"]["template"]["spec"]["initContainers"][0]["image"]
            return bool(found == name)

        return runs

    with running_operator(kubeconfig, tmp_path):
        place.pool("changes")
        place.pool("asks")
        place.await_deployment(library("celeriac-worker:1"), "changes")
        before = place.await_deployment(library("celeriac-worker:1"), "asks")
    with running_operator(kubeconfig, tmp_path, CELERIAC_WORKER_IMAGE="celeriac-worker:2") as operator:
        eventually(lambda: operator.metric("celeriac_operator_reconciles_total"), lambda n: n >= 2, what="passes")
        operator.idle()
        assert templates(place)["asks"][1] == before["spec"]
        place.pool("asks", replicas=2)
        place.await_deployment(
            lambda seen: seen["spec"]["replicas"] == 2 and library("celeriac-worker:1")(seen), "asks"
        )
        place.pool("changes", image="shop:2")
        place.await_deployment(library("celeriac-worker:2"), "changes")
        place.api.merge(
            "CeleryWorkerPool",
            place.namespace,
            "asks",
            {"metadata": {"annotations": {labels.UPGRADE_LIBRARY: "now"}}},
        )
        place.await_deployment(library("celeriac-worker:2"), "asks")


def test_a_signal_ends_it_at_once_and_in_order(kubeconfig: Path, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with running_operator(kubeconfig, tmp_path) as operator:
            eventually(lambda: _healthy(operator), what="health")
            started = time.monotonic()
            assert operator.stop(number) == 0, operator.text()
            assert time.monotonic() - started < 4.5, operator.text()  # kopf would wait 5 s for tasks that linger
            assert "Traceback" not in operator.text()


def _healthy(operator: Operator) -> bool:
    with contextlib.suppress(OSError):
        return operator.healthy()
    return False


def test_it_serves_only_the_namespaces_that_it_is_told_with_roles_in_them(
    place: Place, control_plane: ControlPlane, api: Api, kubeconfig: Path, tmp_path: Path
) -> None:
    other = Place(api=api, namespace=f"{place.namespace}-other")
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": other.namespace}})
    api.request("POST", "/api/v1/namespaces/celeriac/serviceaccounts", {"metadata": {"name": "namespaced"}})
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.namespace}"
    api.request("POST", f"{rbac}/roles", {"metadata": {"name": "celeriac"}, "rules": RULES})
    binding = {
        "metadata": {"name": "celeriac"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "celeriac"},
        "subjects": [{"kind": "ServiceAccount", "name": "namespaced", "namespace": "celeriac"}],
    }
    api.request("POST", f"{rbac}/rolebindings", binding)
    account = kubeconfig_of(control_plane, api, "namespaced", tmp_path)
    with running_operator(account, tmp_path, CELERIAC_WATCH_NAMESPACES=place.namespace) as operator:
        other.pool()
        settle(place)
        place.pool("pool-0", replicas=3)
        place.await_deployment(lambda seen: seen["spec"]["replicas"] == 3, "pool-0")
        operator.idle()
        assert other.get("Deployment") is None
        assert "rror" not in operator.text()
    with running_operator(account, tmp_path, await_start=False) as operator:
        assert operator.process.wait(20) == 1
        assert "the operator may not list celeryworkerpools" in operator.text()
        assert "restrict CELERIAC_WATCH_NAMESPACES" in operator.text()


def test_it_says_when_the_crd_is_not_installed(tmp_path: Path) -> None:
    with ControlPlane() as bare, running_operator(bare.kubeconfig, tmp_path, await_start=False) as operator:
        assert operator.process.wait(30) == 1
        assert "Install the CRD" in operator.text()
        assert "Traceback" not in operator.text()


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        pytest.param({"KUBECONFIG": "/nowhere"}, "set KUBECONFIG to a kubeconfig file", id="without a cluster"),
        pytest.param({"CELERIAC_WORKER_IMAGE": ""}, "CELERIAC_WORKER_IMAGE is not set", id="without a worker image"),
    ],
)
def test_it_says_what_is_missing(kubeconfig: Path, tmp_path: Path, environment: dict[str, str], sentence: str) -> None:
    with running_operator(kubeconfig, tmp_path, await_start=False, **environment) as operator:
        assert operator.process.wait(20) == 1
        assert sentence in operator.text()
        assert "Traceback" not in operator.text()


def test_it_says_when_a_port_is_taken(kubeconfig: Path, tmp_path: Path) -> None:
    with (
        running_operator(kubeconfig, tmp_path) as first,
        running_operator(
            kubeconfig, tmp_path, await_start=False, CELERIAC_METRICS_PORT=str(first.metrics_port)
        ) as second,
    ):
        assert second.process.wait(20) == 1
        assert f"port {first.metrics_port} for metrics cannot be opened" in second.text()


def test_its_permissions_are_exactly_those_that_it_uses(
    place: Place, kubeconfig: Path, control_plane: ControlPlane, tmp_path: Path, server: RedisServer
) -> None:
    """Over everything that the tests above made it do, and the end of all that may end. The last one of this module."""
    with running_operator(kubeconfig, tmp_path):
        place.pool(replicas=2, sentry={"dsn": "https://key@sentry.example/1"}, disruption={"minAvailable": 1})
        two = {"minReplicas": 2, "maxReplicas": 2, "target": {"backlogPerReplica": 1}}
        place.pool("scaled", queues=["mail"], broker={"url": server.url}, autoscaling=two)
        eventually(lambda: place.get("Secret", "emails-sentry"), what="Secret")
        eventually(lambda: place.get("PodDisruptionBudget"), what="budget")
        place.api.delete("Deployment", place.namespace, "emails")
        eventually(
            lambda: any(each["reason"] == "Repaired" for each in place.api.list("Event", place.namespace)), what="event"
        )
        eventually(
            lambda: [pod["metadata"]["labels"][labels.POOL] for pod in place.pods()].count("emails") >= 2,
            what="two workers",
        )
        place.pool(replicas=1)  # with one worker less, which is chosen
        eventually(lambda: place.get("Secret", "emails-sentry"), lambda seen: seen is None, what="end of the Secret")
        eventually(lambda: place.get("PodDisruptionBudget"), lambda seen: seen is None, what="end of the budget")
        place.await_deployment(lambda seen: seen["spec"]["replicas"] == 2, "scaled")
    used = set()
    for entry in audit(control_plane):
        reference = entry.get("objectRef", {})
        what = (reference.get("apiGroup", ""), "/".join(_resource(reference)))
        used.add((*what, entry["verb"]))
        if entry["verb"] == "patch" and entry["responseStatus"]["code"] == 201:
            used.add((*what, "create"))  # an apply that makes the object needs both
    granted = {
        (group, resource, verb)
        for rule in RULES
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # The owner reference that blocks deletion needs it where the admission plugin for that is on; it is off here.
    granted.discard(("celeriac.dev", "celeryworkerpools/finalizers", "update"))
    discovery = {("", "", "get")}
    assert json.dumps(sorted(used - granted - discovery)) == "[]"
    assert json.dumps(sorted(granted - used)) == "[]"


def _resource(reference: dict[str, str]) -> list[str]:
    return [reference[key] for key in ("resource", "subresource") if key in reference]
