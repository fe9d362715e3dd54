"""Two replicas, one Lease. Each test runs real operator processes against a real API server."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.operator.conftest import kubeconfig_of
from tests.integration.operator.machine import Api, Operator, Place, audit, running_operator
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

Replica = Callable[[str], contextlib.AbstractContextManager[Operator]]

LEASES = "/apis/coordination.k8s.io/v1/namespaces/celeriac/leases"
GOLDEN = Path(__file__).parents[3] / "golden" / "chart"
CHART_ROLE = "celeriac-leader"
AFTER_EXIT_SECONDS = 2.0
AFTER_KILL_SECONDS = 15.0


def lease_rules(lease: str) -> list[dict[str, Any]]:
    """The rights that the chart gives to replicas, on the Lease of this name."""
    documents = yaml.safe_load_all((GOLDEN / "everything.yaml").read_text())
    (role,) = (each for each in documents if each and each["kind"] == "Role" and each["metadata"]["name"] == CHART_ROLE)
    return [{**rule, **({"resourceNames": [lease]} if "resourceNames" in rule else {})} for rule in role["rules"]]


@pytest.fixture
def lease(request: pytest.FixtureRequest) -> str:
    """The name of a Lease of the test's own, and of the account that uses it."""
    name: str = request.node.name.replace("_", "-")
    return name


@pytest.fixture
def account(control_plane: ControlPlane, api: Api, kubeconfig: Path, lease: str, tmp_path: Path) -> Path:
    """An account with the operator's rights, and those on Leases in its own namespace. Returns its kubeconfig."""
    api.request("POST", "/api/v1/namespaces/celeriac/serviceaccounts", {"metadata": {"name": lease}})
    rbac, group = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    metadata, rules = {"name": lease}, lease_rules(lease)
    api.request("POST", f"{rbac}/namespaces/celeriac/roles", {"metadata": metadata, "rules": rules})
    for path, kind, name in (
        ("namespaces/celeriac/rolebindings", "Role", lease),
        ("clusterrolebindings", "ClusterRole", "celeriac"),
    ):
        binding = {
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": lease, "namespace": "celeriac"}],
        }
        api.request("POST", f"{rbac}/{path}", binding)
    return kubeconfig_of(control_plane, api, lease, tmp_path)


@pytest.fixture
def replica(account: Path, tmp_path: Path, lease: str) -> Replica:
    def start(name: str) -> contextlib.AbstractContextManager[Operator]:
        return running_operator(
            account,
            tmp_path,
            CELERIAC_LEASE_NAMESPACE="celeriac",
            CELERIAC_LEASE_NAME=lease,
            CELERIAC_POD_NAME=name,
        )

    return start


def holder(api: Api, lease: str) -> str:
    found: str = api.request("GET", f"{LEASES}/{lease}")["spec"]["holderIdentity"]
    return found


def leads(operator: Operator) -> bool:
    return operator.metric("celeriac_operator_leader") == 1


def takes_over(operator: Operator, since: float, seconds: float) -> float:
    eventually(lambda: leads(operator), timeout=seconds + 5, what="new leader")
    took = time.monotonic() - since
    assert took <= seconds
    return took


def test_one_of_two_works_and_the_other_follows_at_once_after_a_clean_exit(
    place: Place, api: Api, control_plane: ControlPlane, replica: Replica, lease: str
) -> None:
    with replica("first") as first:
        eventually(lambda: leads(first), what="leader")
        with replica("second") as second:
            place.pool("before")
            place.await_deployment(name="before")
            eventually(lambda: second.metric("celeriac_operator_pools ") > 0, what="the pool in the follower's cache")
            assert not leads(second)
            assert second.healthy()
            assert second.metric("celeriac_operator_reconciles_total") == 0
            began = time.monotonic()
            first.process.send_signal(signal.SIGTERM)
            takes_over(second, began, AFTER_EXIT_SECONDS)
            assert first.process.wait(20) == 0
            first.stopped = True
            assert holder(api, lease) == "second"
            place.pool("after")
            place.await_deployment(name="after")
    used = {
        entry["verb"]
        for name in ("first", "second")
        for entry in _of(control_plane, lease, name)
        if entry["objectRef"]["resource"] == "leases"
    }
    assert used == {verb for rule in lease_rules(lease) for verb in rule["verbs"]}


def test_after_a_kill_the_follower_waits_for_the_end_of_the_lease(place: Place, replica: Replica) -> None:
    with replica("first") as first:
        eventually(lambda: leads(first), what="leader")
        with replica("second") as second:
            began = time.monotonic()
            first.stop(signal.SIGKILL)
            takes_over(second, began, AFTER_KILL_SECONDS)
            place.pool("after")
            place.await_deployment(name="after")


def test_a_container_started_again_in_its_pod_leads_on_at_once(replica: Replica) -> None:
    with replica("same") as first:
        eventually(lambda: leads(first), what="leader")
        first.stop(signal.SIGKILL)
        with replica("same") as again:
            takes_over(again, time.monotonic(), AFTER_EXIT_SECONDS)


def test_a_leader_that_was_paused_beyond_its_lease_writes_nothing(
    place: Place, api: Api, control_plane: ControlPlane, replica: Replica, lease: str
) -> None:
    with replica("paused") as first:
        eventually(lambda: leads(first), what="leader")
        with replica("successor") as second:
            place.pool("emails")
            place.await_deployment()
            first.process.send_signal(signal.SIGSTOP)
            # Work that waits for it in its connections when it goes on.
            for number in range(20):
                place.pool(f"waiting-{number}")
            eventually(lambda: leads(second), timeout=AFTER_KILL_SECONDS + 5, what="new leader")
            for number in range(20):
                place.await_deployment(name=f"waiting-{number}")
            for number in range(20):
                place.pool(f"waiting-{number}", replicas=2)
            first.process.send_signal(signal.SIGCONT)
            eventually(lambda: "is not the leader any more" in first.text(), what="end of its term")
            for number in range(20):
                place.await_deployment(lambda seen: seen["spec"]["replicas"] == 2, f"waiting-{number}")
            assert not leads(first)
            assert leads(second)
            assert holder(api, lease) == "successor"
            resumed = _of(control_plane, lease, "paused")
            assert resumed, "the audit log tells the replicas apart"
            lost = next(
                entry["requestReceivedTimestamp"]
                for entry in _of(control_plane, lease, "successor")
                if entry["objectRef"]["resource"] == "leases" and entry["verb"] == "patch"
            )
            late = [
                f"{entry['verb']} {entry['requestURI']}"
                for entry in resumed
                if entry["verb"] not in ("get", "list", "watch") and entry["requestReceivedTimestamp"] > lost
            ]
            assert late == []


def _of(control_plane: ControlPlane, account: str, name: str) -> list[dict[str, Any]]:
    """The requests of one replica, which tells the API server its name."""
    user = f"system:serviceaccount:celeriac:{account}"
    return [entry for entry in audit(control_plane, user=user) if entry.get("userAgent", "").endswith(f"({name})")]
