"""Why a pool will not become ready without a person: `kubectl describe cwp` says it and quotes the source.

Real refusals of the API server and of Kubernetes' controllers; only what the kubelet and the scheduler would say is
played.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.operator.machine import Api, Place, RefusedError
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]  # many waits, on a busy machine too

IMPORT_ERROR = "the application shop.celery:app cannot be imported: No module named 'shop'"
AWAY = "The broker redis://**@redis:6379/0 could not be reached after 5 retries, giving up: Connection refused"
BAD_PASSWORD = "The broker redis://**@redis:6379/0 refuses the credentials (WRONGPASS): put the right password there"

NO_NODE = "0/3 nodes are available: 3 Insufficient cpu."


def ended(code: int, message: str, reason: str = "Error") -> dict[str, Any]:
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:02Z",
    }


def looping(last: dict[str, Any]) -> dict[str, Any]:
    """A container in the kubelet's back-off."""
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    return {"restartCount": 3, "state": {"waiting": waiting}, "lastState": {"terminated": last}}


def waits(reason: str, message: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def describe(control_plane: ControlPlane, place: Place) -> str:
    """What a person on call sees first."""
    return control_plane.kubectl("describe", "-n", place.namespace, "cwp/emails")


@pytest.mark.parametrize(
    ("status", "reason", "broker", "words"),
    [
        pytest.param(
            waits("ImagePullBackOff", 'Back-off pulling image "shop:1": ErrImagePull: manifest unknown'),
            "ImagePullFailed",
            "Unknown NotKnown",
            "container worker: manifest unknown",
            id="an image that does not exist",
        ),
        pytest.param(
            looping(ended(78, IMPORT_ERROR)),
            "WorkerMisconfigured",
            "Unknown NotKnown",
            IMPORT_ERROR,
            id="an app that cannot be imported",
        ),
        pytest.param(
            looping(ended(1, "starting\nTraceback (most recent call last):\nKeyError: 'REGION'\n")),
            "CrashLoop",
            "Unknown NotKnown",
            "exit code 1: KeyError: 'REGION'",
            id="an app that ends by itself: the last line of its log",
        ),
        pytest.param(
            looping(ended(137, "", "OOMKilled")),
            "OutOfMemory",
            "Unknown NotKnown",
            "exit code 137",
            id="too little memory",
        ),
        pytest.param(
            looping(ended(69, AWAY)), "BrokerUnreachable", "False ConnectionRefused", AWAY, id="a broker that is away"
        ),
        pytest.param(
            looping(ended(69, BAD_PASSWORD)),
            "BrokerUnreachable",
            "False AuthenticationFailed",
            BAD_PASSWORD,
            id="a wrong password",
        ),
        pytest.param(
            waits("CreateContainerConfigError", 'configmap "shop" not found'),
            "ContainerConfigError",
            "Unknown NotKnown",
            'configmap "shop" not found',
            id="a ConfigMap of envFrom that is missing",
        ),
        pytest.param(
            waits("CreateContainerConfigError", 'secret "django" not found'),
            "SecretNotFound",
            "Unknown NotKnown",
            'secret "django" not found',
            id="a Secret of envFrom that is missing",
        ),
    ],
)
def test_what_the_kubelet_says_is_quoted_with_one_event(
    place: Place, control_plane: ControlPlane, status: dict[str, Any], reason: str, broker: str, words: str
) -> None:
    place.pool()
    (pod,) = place.await_pods(1)
    place.set_container(pod, **status)
    place.await_reason("Stalled", f"True {reason}")
    unready = {"Ready": f"False {reason}", "Stalled": f"True {reason}", "BrokerReachable": broker}
    assert {kind: it for kind, it in place.reasons().items() if kind != "Working"} == unready
    events = eventually(
        lambda: [e for e in place.api.list("Event", place.namespace) if e["reason"] == reason], what="event"
    )
    assert [(e["type"], e["involvedObject"]["name"]) for e in events] == [("Warning", "emails")]
    text = describe(control_plane, place)
    assert words in text
    assert pod["metadata"]["name"] in text
    place.make_ready([pod])
    place.await_reason("Ready", "True Ready")
    # The Deployment may say that workers are ready before their pods do.
    both = {"Ready": "True Ready", "BrokerReachable": "True Connected"}
    eventually(place.reasons, lambda seen: both.items() <= seen.items(), what="both conditions")


def test_an_injector_that_fails_is_quoted(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    (pod,) = place.await_pods(1)
    container = {"name": "celeriac-inject", "image": "x", "imageID": "", "ready": False, "restartCount": 3}
    place.set_pod(pod, phase="Pending", initContainerStatuses=[{**container, **looping(ended(1, "no space left"))}])
    place.await_reason("Stalled", "True InjectionFailed")
    assert "container celeriac-inject, exit code 1: no space left" in describe(control_plane, place)


def test_a_worker_that_waits_for_a_volume_is_named(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    (pod,) = place.await_pods(1)
    start = {"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    place.set_pod(pod, phase="Pending", conditions=[start])
    eventually(
        lambda: place.conditions()["Ready"]["message"],
        lambda seen: "waits for its volumes or its network" in seen,
        what="message",
    )
    assert f"kubectl describe pod -n {place.namespace} {pod['metadata']['name']}" in describe(control_plane, place)


def test_the_scheduler_is_quoted(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    (pod,) = place.await_pods(1)
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": NO_NODE,
        "lastTransitionTime": pod["metadata"]["creationTimestamp"],
    }
    place.set_pod(pod, conditions=[scheduled])
    place.await_reason("Stalled", "True Unschedulable")
    assert NO_NODE in describe(control_plane, place)


def test_a_quota_that_is_used_up_is_quoted(place: Place, control_plane: ControlPlane) -> None:
    place.api.create("ResourceQuota", place.namespace, {"metadata": {"name": "team"}, "spec": {"hard": {"pods": "0"}}})
    eventually(
        lambda: place.api.get("ResourceQuota", place.namespace, "team"),
        lambda seen: "hard" in seen.get("status", {}),
        what="quota",
    )
    place.pool()
    place.await_reason("Stalled", "True QuotaExceeded")
    assert "exceeded quota: team" in describe(control_plane, place)


POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


@pytest.fixture
def house_rule(api: Api, place: Place) -> Iterator[str]:
    """A policy of the cluster: no image of this name in the test's namespace. Returns its sentence."""
    name, sentence = f"images-{place.namespace}", "images come from our own registry"
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {
                    "expression": "object.spec.template.spec.containers.all(c, !c.image.startsWith('elsewhere/'))",
                    "message": sentence,
                }
            ],
        },
    }
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}}}
    binding = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": where},
    }
    api.request("POST", POLICIES, policy)
    api.request("POST", POLICIES.replace("policies", "policybindings"), binding)
    yield sentence
    api.request("DELETE", f"{POLICIES.replace('policies', 'policybindings')}/{name}")
    api.request("DELETE", f"{POLICIES}/{name}")


def test_a_policy_of_the_cluster_is_quoted_and_the_old_workers_stay(
    place: Place, control_plane: ControlPlane, house_rule: str
) -> None:
    place.pool()
    before = place.await_deployment()
    eventually(lambda: _is_refused(place, before), what="policy in force")
    place.pool(image="elsewhere/shop:1")
    place.await_reason("Stalled", "True AdmissionRefused")
    assert house_rule in describe(control_plane, place)
    still = place.get("Deployment")
    assert still is not None
    assert still["spec"] == before["spec"]


def _is_refused(place: Place, deployment: dict[str, Any]) -> bool:
    """The API server takes a policy up some time after it was made."""
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "elsewhere/x"}]}}}}
    path = f"/apis/apps/v1/namespaces/{place.namespace}/deployments/{deployment['metadata']['name']}?dryRun=All"
    try:
        place.api.request("PATCH", path, patch, "application/strategic-merge-patch+json")
    except RefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        pytest.param(
            "Deployment",
            {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}, "spec": {}}},
            "a Deployment named emails exists and belongs to Shop mail: rename the pool or remove the Deployment",
            id="a Deployment",
        ),
        pytest.param(
            "PodDisruptionBudget",
            {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": 1},
            "a PodDisruptionBudget named emails exists and belongs to Shop mail: rename the pool or remove the",
            id="a PodDisruptionBudget",
        ),
    ],
)
def test_who_owns_what_is_in_the_way_is_said(
    place: Place, control_plane: ControlPlane, kind: str, spec: dict[str, Any], words: str
) -> None:
    if "template" in spec:
        spec["template"]["spec"] = {"containers": [{"name": "x", "image": "x"}]}
    # An owner in another group of the API, which the garbage collector does not know and leaves alone.
    owner = {"apiVersion": "v1", "kind": "Shop", "name": "mail", "uid": "1234", "controller": True}
    metadata = {"name": "emails", "ownerReferences": [owner]}
    theirs = place.api.create(kind, place.namespace, {"metadata": metadata, "spec": spec})
    place.pool(replicas=2)
    place.await_reason("Stalled", "True NameConflict")
    assert words in " ".join(describe(control_plane, place).split())
    still = place.get(kind)
    assert still is not None
    assert still["spec"] == theirs["spec"]


def test_a_pool_that_is_ready_again_says_so_once_however_it_got_there(place: Place) -> None:
    """Stalled, then Progressing with a new version, then Ready: as a person repairs it."""
    place.pool(replicas=1)
    (pod,) = place.await_pods(1)
    place.await_reason("Ready", "False Progressing")
    place.set_container(pod, **waits("ImagePullBackOff", 'Back-off pulling image "shop:1": ErrImagePull: unknown'))
    place.await_reason("Stalled", "True ImagePullFailed")
    place.pool(replicas=1, image="shop:2")
    place.await_reason("Ready", "False Progressing")
    (new,) = eventually(
        lambda: [each for each in place.pods() if each["spec"]["containers"][0]["image"] == "shop:2"],
        lambda found: len(found) == 1,
        what="the pod of the new version",
    )
    place.make_ready([new])
    place.await_reason("Ready", "True Ready")

    def told() -> list[str]:
        return [
            each["reason"]
            for each in place.api.list("Event", place.namespace)
            if each["involvedObject"]["kind"] == "CeleryWorkerPool"
        ]

    eventually(told, lambda found: found.count("Recovered") == 1, what="the event Recovered")
    assert told().count("ImagePullFailed") == 1
