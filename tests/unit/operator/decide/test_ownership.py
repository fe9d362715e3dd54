"""Which fields of others does the operator take over, and what does it leave to them?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.operator.factories import a_pool, wanted

from celeriac_operator.decide import ownership

OWN = {
    "manager": "celeriac",
    "operation": "Apply",
    "apiVersion": "apps/v1",
    "time": "2026-05-04T12:00:00Z",
    "fieldsV1": {"f:spec": {"f:replicas": {}}},
}
RESTART = {"f:template": {"f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}}


def entry(spec: dict[str, Any] | None, *, manager: str = "kubectl-edit", **more: Any) -> dict[str, Any]:
    fields = {"f:metadata": {"f:labels": {"f:team": {}}}, **({"f:spec": spec} if spec is not None else {})}
    basics = {"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "time": "2026-05-04T13:00:00Z"}
    return {**basics, "fieldsV1": fields, **more}


def in_worker(fields: dict[str, Any]) -> dict[str, Any]:
    return {"f:template": {"f:spec": {"f:containers": {'k:{"name":"worker"}': fields}}}}


def with_managers(*entries: dict[str, Any]) -> dict[str, Any]:
    there = copy.deepcopy(wanted(a_pool(), "Deployment"))
    there["metadata"]["managedFields"] = ownership.keep(entries)
    return there


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"f:minReadySeconds": {}}, "spec.minReadySeconds", id="a field"),
        pytest.param(in_worker({"f:args": {}}), "spec.template.spec.containers.[worker].args", id="in a container"),
        pytest.param(
            in_worker({"f:env": {'k:{"name":"DEBUG"}': {".": {}, "f:name": {}, "f:value": {}}}}),
            "spec.template.spec.containers.[worker].env.[DEBUG]",
            id="an item",
        ),
        pytest.param(
            in_worker({"f:livenessProbe": {"f:exec": {"f:command": {}}}}),
            "spec.template.spec.containers.[worker].livenessProbe.exec",
            id="the other side of a one-of",
        ),
        pytest.param(in_worker({"f:image": {}}), None, id="a field that the manifest has too"),
        pytest.param(
            in_worker({"f:ports": {'k:{"containerPort":8787,"protocol":"TCP"}': {"f:name": {}}}}), None, id="our port"
        ),
        pytest.param(RESTART, None, id="a restart by kubectl"),
        pytest.param({"f:paused": {}}, None, id="a pause"),
    ],
)
def test_what_was_added(spec: dict[str, Any], expected: str | None) -> None:
    found = ownership.added(wanted(a_pool(), "Deployment"), with_managers(OWN, entry(spec)))
    assert found == ((f"{expected} was added by kubectl-edit",) if expected else ())


def test_a_map_that_somebody_has_set_as_a_whole_is_compared_as_a_whole() -> None:
    pool = a_pool(template={"spec": {"nodeSelector": {"disk": "ssd"}}})
    manifest, there = wanted(pool, "Deployment"), wanted(pool, "Deployment")
    there["metadata"]["managedFields"] = ownership.keep([entry({"f:template": {"f:spec": {"f:nodeSelector": {}}}})])
    assert ownership.added(manifest, there) == ()
    there["spec"]["template"]["spec"]["nodeSelector"]["zone"] = "a"
    assert len(ownership.added(manifest, there)) == 1


def test_what_nobody_has_set_was_added_by_the_server_or_a_webhook() -> None:
    there = with_managers(OWN)
    there["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "mesh:1"})
    assert ownership.added(wanted(a_pool(), "Deployment"), there) == ()


def test_the_own_entry_takes_everything_of_the_spec_but_pauses_and_restarts() -> None:
    status = entry({"f:replicas": {}}, manager="kube-controller-manager", subresource="status")
    edited = entry({"f:minReadySeconds": {}, "f:paused": {}, **RESTART})
    own, others, controller = ownership.taken_over([OWN, edited, status])
    assert own["fieldsV1"] == {"f:spec": {"f:replicas": {}, "f:minReadySeconds": {}}}
    left = {"f:template": {"f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}}
    assert others["fieldsV1"]["f:spec"] == {"f:paused": {}, **left}
    assert others["fieldsV1"]["f:metadata"] == edited["fieldsV1"]["f:metadata"]
    assert controller == status


def test_an_object_that_the_operator_has_never_applied_gets_an_entry_of_its_own() -> None:
    (own, *_) = ownership.taken_over([entry({"f:replicas": {}})])
    assert (own["manager"], own["operation"], own["apiVersion"]) == ("celeriac", "Apply", "apps/v1")
    assert own["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


def test_the_newest_editor_is_named() -> None:
    old = entry({"f:replicas": {}}, manager="old", time="2026-05-04T11:00:00Z")
    assert ownership.editor(with_managers(OWN, old, entry({"f:replicas": {}}, manager="new"))) == "new"
    assert ownership.editor(with_managers(OWN, entry(RESTART, manager="kubectl"))) == ""
    assert ownership.editor({"metadata": {}}) == ""
