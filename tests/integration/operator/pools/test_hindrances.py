"""What stands in a pool's way, or lies around beside it: the pool says so, and what can go on goes on."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.operator.machine import Api, Manifest, Place, RefusedError
from tests.waiting import eventually

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]  # many waits, on a busy machine too

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
INLINE = {"sentry": {"dsn": "https://key@sentry.example/1"}}


@contextlib.contextmanager
def webhook_away(place: Place, group: str, resource: str) -> Iterator[None]:
    """A webhook that the API server must ask about every write of these objects, and that does not answer."""
    name = f"away-{place.namespace}-{resource}"
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE", "UPDATE"]}
    hook = {
        "name": "validate.policy.example",
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
        "rules": [rule],
        "clientConfig": {"url": "https://127.0.0.1:9/validate"},
    }
    kind = "ValidatingWebhookConfiguration"
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": [hook],
    }
    place.api.request("POST", WEBHOOKS, body)
    probe = {"metadata": {"name": "probe", "namespace": place.namespace}}
    bodies = {"deployments": ("Deployment", {**probe, "spec": deployment_spec()}), "pods": ("Pod", {**probe, **POD})}
    kind, document = bodies[resource]
    eventually(lambda: refused(place.api, kind, place.namespace, document), what="webhook in force")
    try:
        yield
    finally:
        place.api.request("DELETE", f"{WEBHOOKS}/{name}")


POD = {"spec": {"containers": [{"name": "x", "image": "x"}]}}


def deployment_spec() -> Manifest:
    template = {"metadata": {"labels": {"x": "x"}}, **POD}
    return {"replicas": 0, "selector": {"matchLabels": {"x": "x"}}, "template": template}


def refused(api: Api, kind: str, namespace: str, body: Manifest) -> bool:
    try:
        api.create(kind, namespace, body)
    except RefusedError as error:
        return "failed calling webhook" in str(error)
    api.delete(kind, namespace, body["metadata"]["name"])
    return False


def healthy(place: Place, **spec: Any) -> list[Manifest]:
    place.pool(**spec)
    pods = place.await_pods(spec.get("replicas", 1))
    place.make_ready(pods)
    place.await_reason("Ready", "True Ready")
    return pods


@pytest.mark.parametrize("is_new", [pytest.param(True, id="a new pool"), pytest.param(False, id="a changed pool")])
def test_a_webhook_that_does_not_answer_is_named_by(place: Place, *, is_new: bool) -> None:
    if not is_new:
        healthy(place)
    with webhook_away(place, "apps", "deployments"):
        applied = place.pool(image="shop:2")
        said = place.await_reason("Stalled", "True WebhookUnavailable")
        assert "validate.policy.example" in said["message"]
        assert said["observedGeneration"] == applied["metadata"]["generation"]
        assert place.reasons()["Ready"] == "False WebhookUnavailable"
    place.make_ready(eventually(place.pods, what="pods"))
    place.await_deployment(lambda seen: seen["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2")


def test_a_webhook_for_pods_that_does_not_answer_is_named(place: Place) -> None:
    with webhook_away(place, "", "pods"):
        place.pool()
        assert "validate.policy.example" in place.await_reason("Stalled", "True WebhookUnavailable")["message"]


def test_a_secret_for_the_dsn_that_cannot_be_written_holds_up_no_worker(place: Place) -> None:
    place.api.create("ResourceQuota", place.namespace, {"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "0"}}})
    eventually(lambda: (place.get("ResourceQuota", "q") or {}).get("status", {}).get("hard"), what="quota in force")
    place.pool(**INLINE)
    place.make_ready(place.await_pods(1))
    place.await_reason("Ready", "True Ready")
    assert "exceeded quota" in place.await_reason("SentryConfigured", "False SecretNotWritten")["message"]
    place.api.delete("ResourceQuota", place.namespace, "q")
    place.await_reason("SentryConfigured", "True Configured")
    assert place.get("Secret", "emails-sentry") is not None


def test_an_immutable_secret_for_the_dsn_holds_up_no_change(place: Place) -> None:
    healthy(place, **INLINE)
    place.api.merge("Secret", place.namespace, "emails-sentry", {"immutable": True})
    place.pool(sentry={"dsn": "https://key@sentry.example/2"}, image="shop:2")
    place.await_deployment(lambda seen: seen["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2")
    assert "immutable" in place.await_reason("SentryConfigured", "False SecretNotWritten")["message"]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_worker_that_has_ended_for_good_is_not_counted(place: Place, phase: str) -> None:
    pods = healthy(place, replicas=2)
    ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}
    container = {"name": "worker", "image": "x", "imageID": "x", "ready": False, "restartCount": 3}
    place.set_pod(
        pods[0],
        phase=phase,
        reason="Evicted",
        conditions=[{"type": "Ready", "status": "False"}],
        containerStatuses=[{**container, "state": {"terminated": ended}}],
    )
    name = pods[0]["metadata"]["name"]
    others = eventually(
        lambda: [pod for pod in place.pods() if pod["metadata"]["name"] != name],
        lambda it: len(it) == 2,
        what="its heir",
    )
    place.make_ready(others)
    place.await_reason("Ready", "True Ready")
    assert "Stalled" not in place.conditions()
    place.pool(suspend=True)
    path = f"/api/v1/namespaces/{place.namespace}/pods"

    def left() -> list[str]:
        for pod in place.pods():
            if "deletionTimestamp" in pod["metadata"]:
                with contextlib.suppress(RefusedError):
                    place.api.request("DELETE", f"{path}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
        return [pod["metadata"]["name"] for pod in place.pods()]

    eventually(left, lambda found: found == [name], what="only the ended worker left")
    place.await_reason("Ready", "True Suspended")
    assert "Reconciling" not in place.conditions()


def test_a_refusal_of_the_former_template_does_not_hide_the_present_cause(place: Place) -> None:
    hard = {"limits.cpu": "4", "limits.memory": "4Gi"}
    place.api.create("ResourceQuota", place.namespace, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    eventually(lambda: (place.get("ResourceQuota", "q") or {}).get("status", {}).get("hard"), what="quota in force")
    place.pool()
    place.await_reason("Stalled", "True AdmissionRefused")
    place.pool(resources={"limits": {"cpu": "1", "memory": "1Gi"}})
    (pod,) = place.await_pods(1)
    place.await_reason("Ready", "False Progressing")
    place.set_container(pod, state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    place.await_reason("Stalled", "True ImagePullFailed")


def test_labels_of_a_chart_on_the_workers_hide_none_of_them(place: Place) -> None:
    marks = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "shop", "helm.sh/chart": "shop-1"}
    place.pool(template={"metadata": {"labels": marks}})
    (pod,) = place.await_pods(1)
    assert marks.items() <= pod["metadata"]["labels"].items()
    place.set_container(pod, state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    place.await_reason("Stalled", "True ImagePullFailed")
    place.make_ready([pod])
    place.await_reason("BrokerReachable", "True Connected")


def owners(found: Manifest | None) -> list[str]:
    return [owner["uid"] for owner in (found or {"metadata": {}})["metadata"].get("ownerReferences") or ()]


OWNED = (("Deployment", "emails"), ("PodDisruptionBudget", "emails"), ("Secret", "emails-sentry"))


def test_what_an_orphaned_pool_left_behind_is_adopted(place: Place) -> None:
    place.pool(**INLINE, replicas=2)
    before = {kind: eventually(lambda k=kind, n=name: place.get(k, n), what=kind) for kind, name in OWNED}
    path = f"/apis/celeriac.dev/v1alpha1/namespaces/{place.namespace}/celeryworkerpools/emails"
    place.api.request("DELETE", path, {"propagationPolicy": "Orphan"})
    for kind, name in OWNED:
        eventually(lambda k=kind, n=name: owners(place.get(k, n)), lambda it: not it, what=f"{kind} without an owner")
    uid = place.pool(sentry={"dsn": "https://other@sentry.example/2"}, replicas=2)["metadata"]["uid"]
    for kind, name in OWNED:
        found = eventually(
            lambda k=kind, n=name: place.get(k, n), lambda it: owners(it) == [uid], what=f"adopted {kind}"
        )
        assert found["metadata"]["uid"] == before[kind]["metadata"]["uid"]
    dsn = base64.b64decode((place.get("Secret", "emails-sentry") or {})["data"]["dsn"]).decode()
    assert dsn == "https://other@sentry.example/2"
    place.await_reason("SentryConfigured", "True Configured")


@pytest.mark.parametrize(
    ("labels", "is_owned"),
    [
        pytest.param({}, False, id="without labels"),
        pytest.param({"celeriac.dev/pool": "emails"}, False, id="with the label of the pool only"),
        pytest.param(
            {"celeriac.dev/pool": "reports", "app.kubernetes.io/managed-by": "celeriac"}, False, id="of another pool"
        ),
        pytest.param(
            {"celeriac.dev/pool": "emails", "app.kubernetes.io/managed-by": "celeriac"}, True, id="of another owner"
        ),
    ],
)
def test_a_secret_is_not_adopted(place: Place, labels: dict[str, str], *, is_owned: bool) -> None:
    owner = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "default"}
    account = place.api.request("GET", f"/api/v1/namespaces/{place.namespace}/serviceaccounts/default")
    owner["uid"] = account["metadata"]["uid"]
    metadata = {"name": "emails-sentry", "labels": labels, **({"ownerReferences": [owner]} if is_owned else {})}
    made = place.api.create("Secret", place.namespace, {"metadata": metadata, "stringData": {"mine": "x"}})
    place.pool(**INLINE)
    place.await_reason("SentryConfigured", "False NameConflict")
    place.await_deployment()
    assert (place.get("Secret", "emails-sentry") or {})["data"] == made["data"]
