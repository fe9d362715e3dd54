"""The operator has the rights that it uses, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from demo import install, waiting
from demo.kubernetes import Kube, condition_of

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml",)
ACCOUNT = f"system:serviceaccount:{install.OPERATOR_NAMESPACE}:celeriac"
OPERATOR = "app.kubernetes.io%2Fcomponent%3Doperator"
POD_NAME = "authentication.kubernetes.io/pod-name"


class Right(NamedTuple):
    group: str
    resource: str  # with its subresource
    verb: str


# From one worker, the default, to two.
SCALES = {
    "autoscaling": {"minReplicas": 2, "maxReplicas": 2, "target": {"backlogPerReplica": 1}},
}

# No request of the operator's: where OwnerReferencesPermissionEnforcement is on, the API server asks itself.
ASKED_BY_THE_SERVER = {Right("celeriac.dev", "celeryworkerpools/finalizers", "update")}


def granted(kube: Kube) -> set[Right]:
    """What the chart's ClusterRole says."""
    role = kube.read("apis/rbac.authorization.k8s.io/v1/clusterroles/celeriac")
    return {
        Right(group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


class Request(NamedTuple):
    namespace: str  # empty: none, or all
    right: Right
    code: int


def requests(audit_log: Path, pod: str) -> Iterator[Request]:
    """What a pod of the operator has asked of the API server, and the answers' codes."""
    with audit_log.open() as lines:
        for line in lines:
            entry = json.loads(line)
            user, what = entry["user"], entry.get("objectRef") or {}
            if user["username"] == ACCOUNT and pod in user.get("extra", {}).get(POD_NAME, []) and "resource" in what:
                resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
                code = entry.get("responseStatus", {}).get("code", 0)
                # An apply that makes the object is logged as a patch, and needs the right to create as well.
                for verb in (entry["verb"], *(("create",) if code == 201 else ())):
                    yield Request(what.get("namespace", ""), Right(what.get("apiGroup", ""), resource, verb), code)


@pytest.fixture
def audit_log() -> Path:
    status = json.loads(install.local_cluster("status", "--json"))
    if "auditLog" not in status:
        pytest.skip(f"a cluster of {status['provider']} keeps no audit log")
    return Path(status["auditLog"])


def test_every_right_is_used_and_no_request_is_refused(shop, kube: Kube, a_pool, audit_log: Path):
    (operator,) = kube.at(install.OPERATOR_NAMESPACE).pods(OPERATOR)
    # Everything that the operator writes: Deployment, budget, Secret, status, events; their removal; and the costs of
    # the pods when there are to be fewer of them.
    kube.apply(
        a_pool("whole", sentry={"dsn": "http://public@sentry:8000/1"}, disruption={"maxUnavailable": 1}, **SCALES)
    )
    kube.wait_ready("whole")
    kube.kubectl("delete", "deployment/whole", "--wait=false")
    waiting.until(
        "an event tells of the repair", lambda: events(kube, "whole"), lambda seen: "Repaired" in seen, seconds=30
    )
    kube.wait_ready("whole")
    kube.apply(a_pool("whole", sentry={"dsnFrom": {"secretKeyRef": {"name": "none", "key": "dsn"}}}))
    kube.kubectl("scale", "cwp/whole", "--replicas=1")
    waiting.until(
        "the inline DSN's Secret and the budget are gone",
        lambda: set(kube.kubectl("get", "secrets,poddisruptionbudgets", "--output=name").split()),
        lambda names: names.isdisjoint({"secret/whole-sentry", "poddisruptionbudget.policy/whole"}),
        seconds=30,
    )

    def unused() -> set[Right]:
        # The API server writes its log a moment after its answer.
        used = {each.right for each in requests(audit_log, operator["metadata"]["name"])}
        return granted(kube) - ASKED_BY_THE_SERVER - used

    waiting.until("every right has been used", unused, lambda rights: not rights, seconds=60)
    seen = list(requests(audit_log, operator["metadata"]["name"]))
    assert {each.right for each in seen} <= granted(kube)
    # Not of other namespaces: one that is being deleted refuses every creation in it.
    assert [each for each in seen if each.code == 403 and each.namespace in ("", kube.namespace)] == []


def events(kube: Kube, pool: str) -> set[str]:
    """Reasons of the events about a pool."""
    found = kube.read(f"api/v1/namespaces/{kube.namespace}/events?fieldSelector=involvedObject.name%3D{pool}")["items"]
    return {event["reason"] for event in found}


@pytest.fixture
def narrow_operator(kube: Kube, images: Mapping[str, str]) -> Iterator[Kube]:
    """An operator with rights in one namespace alone, instead of the one for all of them."""
    system, release = kube.at(install.OPERATOR_NAMESPACE), "narrow"
    inside = kube.at(f"{kube.namespace}-inside")
    kube.kubectl("create", "namespace", inside.namespace)
    system.kubectl("scale", "deployment/celeriac", "--replicas=0")
    try:
        install.install_chart(
            kube.programs, images, "crds.enabled=false", "rbac.aggregate=false",
            f"watchNamespaces={{{inside.namespace}}}", release=release, namespace=kube.namespace,
        )  # fmt: skip
        yield inside
    finally:
        kube.programs.run(["helm", "uninstall", release, "--namespace", kube.namespace, "--wait"])
        kube.kubectl("delete", "namespace", inside.namespace, "--wait=false")
        system.kubectl("scale", "deployment/celeriac", "--replicas=1")
        system.kubectl("rollout", "status", "deployment/celeriac", "--timeout=60s")


def test_an_operator_for_one_namespace_needs_no_right_outside_it(shop, kube: Kube, a_pool, narrow_operator: Kube):
    inside = narrow_operator
    url = f"redis://:only-an-example@redis.{kube.namespace}:6379/4"
    inside.kubectl(
        "create", "secret", "generic", "redis", f"--from-literal=url={url}", f"--from-literal=resultUrl={url}"
    )
    inside.apply(a_pool("seen"))
    kube.apply(a_pool("unseen"))
    inside.wait_ready("seen")
    assert condition_of(kube.pool("unseen"), "Ready").reason == "Pending"
    role = f"--as=system:serviceaccount:{kube.namespace}:narrow-celeriac"
    may = {
        where.namespace: where.programs.run(
            ["bash", "-c", f"kubectl auth can-i list secrets --namespace {where.namespace} {role} || true"]
        ).strip()
        for where in (inside, kube)
    }
    assert may == {inside.namespace: "yes", kube.namespace: "no"}
