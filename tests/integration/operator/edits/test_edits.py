"""Somebody edits the Deployment by hand: every kind of edit is undone, named in an event, and blocks no later
change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.operator.machine import Manifest, Place
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(240)]

POD = "/spec/template/spec"
WORKER = f"{POD}/containers/0"
EDITOR = "kubectl-edit"

SPEC: dict[str, Any] = {
    "env": [
        {"name": "PLAIN", "value": "1"},
        {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ],
    "sentry": {"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}},
    "resources": {"limits": {"memory": "100Mi"}},
    "template": {"spec": {"volumes": [{"name": "scratch", "emptyDir": {}}], "nodeSelector": {"disk": "ssd"}}},
}

HANDLERS: dict[str, Any] = {
    "exec": {"command": ["true"]},
    "tcpSocket": {"port": 8787},
    "grpc": {"port": 8787},
}
SOURCES: dict[str, Any] = {
    "hostPath": {"path": "/opt"},
    "configMap": {"name": "x"},
    "secret": {"secretName": "x"},
    "projected": {"sources": []},
    "persistentVolumeClaim": {"claimName": "x"},
    "downwardAPI": {},
    "emptyDir": {},
}
VALUES: dict[str, Any] = {
    "secretKeyRef": {"name": "x", "key": "y"},
    "configMapKeyRef": {"name": "x", "key": "y"},
    "resourceFieldRef": {"resource": "limits.memory"},
    "fieldRef": {"fieldPath": "metadata.uid"},
}

ADDED: dict[str, Any] = {
    f"{WORKER}/args": ["--loglevel=debug"],
    f"{WORKER}/env/-": {"name": "DEBUG", "value": "1"},
    f"{WORKER}/envFrom": [{"secretRef": {"name": "x"}}],
    f"{WORKER}/lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
    f"{WORKER}/ports/-": {"name": "debug", "containerPort": 5678},
    f"{WORKER}/resources/limits/cpu": "100m",
    f"{WORKER}/resources/requests": {"cpu": "10m"},
    f"{WORKER}/securityContext/privileged": False,
    f"{WORKER}/tty": True,
    f"{WORKER}/volumeMounts/-": {"name": "scratch", "mountPath": "/scratch"},
    f"{WORKER}/workingDir": "/srv",
    f"{POD}/affinity": {"podAntiAffinity": {}},
    f"{POD}/containers/-": {"name": "debug", "image": "debug:1"},
    f"{POD}/dnsConfig": {"nameservers": ["10.0.0.1"]},
    f"{POD}/hostAliases": [{"ip": "10.0.0.1", "hostnames": ["redis"]}],
    f"{POD}/hostIPC": True,
    f"{POD}/imagePullSecrets": [{"name": "registry"}],
    f"{POD}/initContainers/-": {"name": "debug", "image": "debug:1"},
    f"{POD}/nodeSelector/zone": "a",
    f"{POD}/nodeName": "node-1",
    f"{POD}/priorityClassName": "system-node-critical",
    f"{POD}/securityContext/runAsUser": 1000,
    f"{POD}/serviceAccountName": "default",
    f"{POD}/tolerations": [{"operator": "Exists"}],
    f"{POD}/topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    ],
    f"{POD}/volumes/-": {"name": "extra", "emptyDir": {}},
    "/spec/template/metadata/labels/team": "mail",
    "/spec/minReadySeconds": 10,
    "/spec/progressDeadlineSeconds": 30,
    "/spec/revisionHistoryLimit": 0,
    "/spec/replicas": 9,
}

Patch = list[dict[str, Any]]


def swapped(path: str, old: str, new: str, value: Any) -> Patch:
    return [{"op": "remove", "path": f"{path}/{old}"}, {"op": "add", "path": f"{path}/{new}", "value": value}]


def one_ofs(deployment: Manifest) -> Iterator[tuple[str, Patch]]:
    """Every one-of of the pod template, set to every other alternative."""
    pod = deployment["spec"]["template"]["spec"]
    worker = pod["containers"][0]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for handler, value in HANDLERS.items():
            yield f"{probe}: {handler}", swapped(f"{WORKER}/{probe}", "httpGet", handler, value)
    for index, volume in enumerate(pod["volumes"][1:], start=1):
        (source,) = set(volume) - {"name"}
        for other, value in SOURCES.items():
            if other != source:
                yield f"volume {volume['name']}: {other}", swapped(f"{POD}/volumes/{index}", source, other, value)
    for index, variable in enumerate(worker["env"]):
        if variable["name"] == "PLAIN":
            for source, value in VALUES.items():
                yield (
                    f"variable PLAIN: {source}",
                    swapped(f"{WORKER}/env/{index}", "value", "valueFrom", {source: value}),
                )
        if variable["name"] == "FIELD":
            yield "variable FIELD: value", swapped(f"{WORKER}/env/{index}", "valueFrom", "value", "1")
            for source, value in VALUES.items():
                if source != "fieldRef":
                    yield (
                        f"variable FIELD: {source}",
                        swapped(f"{WORKER}/env/{index}/valueFrom", "fieldRef", source, value),
                    )


def edits(deployment: Manifest) -> Iterator[tuple[str, Patch]]:
    yield from one_ofs(deployment)
    for path, value in ADDED.items():
        yield path, [{"op": "add", "path": path, "value": value}]
    yield "the worker's container is renamed", [{"op": "replace", "path": f"{WORKER}/name", "value": "worker2"}]
    yield "the port is changed", [{"op": "replace", "path": f"{WORKER}/ports/0/containerPort", "value": 9999}]
    yield "Recreate", [{"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}}]
    yield "no probe", [{"op": "remove", "path": f"{WORKER}/livenessProbe"}]


def path_of(place: Place, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{place.namespace}/deployments/{name}"


def edit(place: Place, name: str, patch: Patch) -> None:
    path = f"{path_of(place, name)}?fieldManager={EDITOR}"
    place.api.request("PATCH", path, patch, "application/json-patch+json")


def settled(place: Place, name: str) -> Manifest:
    """The Deployment, once the operator has handled the pool."""
    eventually(lambda: place.reasons(name).get("Ready"), lambda seen: seen == "False Progressing", what="status")
    return place.await_deployment(name=name)


def repairs(place: Place) -> dict[str, str]:
    """Messages of the events Repaired, by pool."""
    events = place.api.list("Event", place.namespace)
    return {each["involvedObject"]["name"]: each["message"] for each in events if each["reason"] == "Repaired"}


def test_every_edit_is_undone_and_its_editor_is_named(place: Place) -> None:
    place.secret("sentry", dsn="https://key@sentry.example/1")
    place.pool("first", **SPEC)
    before = settled(place, "first")
    cases = dict(enumerate(edits(before)))
    for number in cases:
        place.pool(f"pool-{number}", **SPEC)
    unedited = {number: settled(place, f"pool-{number}") for number in cases}
    for number, (_, patch) in cases.items():
        edit(place, f"pool-{number}", patch)
    for number, (what, _) in cases.items():
        expected = unedited[number]["spec"]
        place.await_deployment(lambda seen, expected=expected: seen["spec"] == expected, f"pool-{number}"), what
    names = {f"pool-{number}" for number in cases}
    events = eventually(lambda: repairs(place), lambda seen: names <= seen.keys(), what="an event for each")
    assert {what: events[f"pool-{n}"] for n, (what, _) in cases.items() if EDITOR not in events[f"pool-{n}"]} == {
        "no probe": events[f"pool-{len(cases) - 1}"]
    }
    assert "Kubernetes does not record who removes a field" in events[f"pool-{len(cases) - 1}"]
    for number in cases:
        place.pool(f"pool-{number}", **{**SPEC, "image": "shop:2"})
    for number in cases:
        place.await_deployment(lambda seen: image_of(seen) == "shop:2", f"pool-{number}")


def image_of(deployment: Manifest) -> str:
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


@pytest.mark.parametrize("verb", ["patch", "merge", "replace", "apply"])
def test_an_addition_is_undone_whatever_verb_made_it(place: Place, verb: str) -> None:
    place.pool()
    before = settled(place, "emails")
    query = "?fieldManager=somebody"
    path = path_of(place, "emails") + query
    added = {"nodeSelector": {"disk": "ssd"}}
    body: Manifest = {"spec": {"template": {"spec": added}}}
    if verb == "patch":
        place.api.request("PATCH", path, body, "application/strategic-merge-patch+json")
    elif verb == "merge":
        place.api.request("PATCH", path, body, "application/merge-patch+json")
    elif verb == "apply":
        full = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "emails"}, **body}
        place.api.request("PATCH", f"{path}&force=true", full, "application/apply-patch+yaml")
    else:
        changed = json.loads(json.dumps(place.get("Deployment")))
        changed["spec"]["template"]["spec"].update(added)
        del changed["metadata"]["resourceVersion"]  # whatever the controllers write meanwhile
        place.api.request("PUT", path, changed)
    place.await_deployment(lambda seen: seen["spec"] == before["spec"])
    eventually(lambda: repairs(place), lambda seen: "somebody" in seen.get("emails", ""), what="event")


def test_an_undone_rollout_is_named_and_the_former_image_is_in_the_status(
    place: Place, control_plane: ControlPlane
) -> None:
    place.pool()
    settled(place, "emails")
    place.pool(image="shop:2")
    place.await_deployment(lambda seen: image_of(seen) == "shop:2")
    # The controller must have seen both revisions.
    eventually(lambda: len(place.api.list("ReplicaSet", place.namespace)), lambda count: count == 2, what="revisions")
    settled_status = eventually(
        lambda: (place.get("CeleryWorkerPool") or {})["status"],
        lambda seen: seen.get("image") == "shop:2" and seen["observedGeneration"] == 2,
        what="status",
    )
    assert settled_status["previousImage"] == "shop:1"
    control_plane.kubectl("rollout", "-n", place.namespace, "undo", "deployment/emails")
    place.await_deployment(lambda seen: image_of(seen) == "shop:2")
    eventually(lambda: repairs(place), lambda seen: "changed by kubectl" in seen.get("emails", ""), what="event")


def test_a_paused_rollout_is_reported_and_goes_on_when_it_is_resumed(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    place.make_ready(place.await_pods(1))
    place.await_reason("Ready", "True Ready")
    control_plane.kubectl("rollout", "-n", place.namespace, "pause", "deployment/emails")
    eventually(lambda: place.conditions()["Ready"]["message"], lambda seen: "is paused" in seen, what="message")
    place.pool(image="shop:2")
    message = place.await_reason("Stalled", "True RolloutPaused")["message"]
    assert f"kubectl rollout resume -n {place.namespace} deployment/emails" in message
    control_plane.kubectl("rollout", "-n", place.namespace, "resume", "deployment/emails")
    place.await_reason("Ready", "False Progressing")


def test_workers_are_restarted_by_an_annotation_and_by_kubectl(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    before = settled(place, "emails")
    control_plane.kubectl("annotate", "-n", place.namespace, "cwp/emails", "celeriac.dev/restart=today")
    after = place.await_deployment(lambda seen: seen["spec"]["template"] != before["spec"]["template"])
    assert after["spec"]["template"]["metadata"]["annotations"]["celeriac.dev/restart"] == "today"
    control_plane.kubectl("rollout", "-n", place.namespace, "restart", "deployment/emails")
    place.pool(replicas=2)
    last = place.await_deployment(lambda seen: seen["spec"]["replicas"] == 2)
    assert "kubectl.kubernetes.io/restartedAt" in last["spec"]["template"]["metadata"]["annotations"]
