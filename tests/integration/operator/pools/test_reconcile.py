"""The operator at work, against a real API server and Kubernetes' own controllers. Only the kubelet is played."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.operator.machine import Operator, Place
from tests.waiting import eventually

from celeriac_operator import labels
from localcluster.controlplane import ControlPlane

pytestmark = pytest.mark.usefixtures("operator")

KIND = "CeleryWorkerPool"


def template_hash(deployment: dict[str, Any]) -> str:
    return str(deployment["spec"]["template"]["metadata"]["annotations"][labels.TEMPLATE_HASH])


def has_replicas(count: int) -> Any:
    return lambda deployment: deployment["spec"]["replicas"] == count


def test_a_pool_gets_a_deployment_and_becomes_ready_with_its_workers(place: Place, control_plane: ControlPlane) -> None:
    place.pool(replicas=2)
    deployment = place.await_deployment()
    assert deployment["metadata"]["ownerReferences"][0]["kind"] == "CeleryWorkerPool"
    assert place.await_reason("Reconciling", "True Progressing")["message"]
    place.make_ready(place.await_pods(2))
    control_plane.kubectl("wait", "-n", place.namespace, "--for=condition=Ready", "cwp/emails", "--timeout=20s")
    # The Deployment may say that workers are ready before their pods do.
    both = {"Ready": "True Ready", "BrokerReachable": "True Connected"}
    eventually(place.reasons, lambda seen: both.items() <= seen.items(), what="both conditions")
    line = control_plane.kubectl("get", "-n", place.namespace, "cwp", "--no-headers").split()
    assert line[:4] == ["emails", "2/2", "0", "Ready"]
    wide = control_plane.kubectl("get", "-n", place.namespace, "cwp", "-o", "wide")
    assert wide.splitlines()[-1].split()[5:7] == ["shop:1", "1"], "image and library's version"
    assert "2 workers are ready and consuming" in wide


def test_kubectl_scale_is_followed_and_an_apply_without_replicas_leaves_the_number_alone(
    place: Place, control_plane: ControlPlane
) -> None:
    place.pool()
    before = template_hash(place.await_deployment(has_replicas(1)))
    control_plane.kubectl("scale", "-n", place.namespace, "cwp/emails", "--replicas=3")
    place.await_deployment(has_replicas(3))
    place.pool()
    place.pool(image="shop:2")
    deployment = place.await_deployment(lambda seen: template_hash(seen) != before)
    assert deployment["spec"]["replicas"] == 3
    eventually(
        lambda: (place.get("CeleryWorkerPool") or {})["status"]["replicas"], lambda seen: seen >= 3, what="status"
    )
    scale = control_plane.kubectl(
        "get", "-n", place.namespace, "cwp/emails", "--subresource=scale", "-o", "jsonpath={.status.selector}"
    )
    assert scale == "app.kubernetes.io/name=celeriac-worker,celeriac.dev/pool=emails"


def test_each_step_that_a_person_waits_for_is_told_once(place: Place, control_plane: ControlPlane) -> None:
    def told() -> list[str]:
        events = place.api.list("Event", place.namespace)
        mine = sorted((e for e in events if e["involvedObject"]["kind"] == KIND), key=lambda e: e["eventTime"] or "")
        return [f"{e['reason']}: {e['message']}" for e in mine]

    def await_told(number: int) -> list[str]:
        found: list[str] = eventually(told, lambda seen: len(seen) >= number, what=f"{number} events")
        return found

    place.pool(replicas=2)
    place.make_ready(place.await_pods(2))
    place.await_reason("Ready", "True Ready")
    await_told(2)
    control_plane.kubectl("scale", "-n", place.namespace, "cwp/emails", "--replicas=1")
    await_told(3)
    place.await_reason("Ready", "True Ready")
    control_plane.kubectl(
        *("patch", "-n", place.namespace, "cwp/emails", "--type=merge", '--patch={"spec": {"image": "shop:2"}}')
    )
    assert sorted(await_told(4)) == [
        "Created: Deployment emails with 2 workers, image shop:1",
        "RolledOut: 2 workers are ready and consuming",
        "RollingOut: image shop:1 is replaced by shop:2",
        "Scaled: from 2 to 1 worker; set by kubectl",
    ]


def test_an_edited_deployment_is_put_right_and_says_so(place: Place) -> None:
    place.pool(env=[{"name": "A", "value": "1"}])
    before = place.await_deployment()
    place.await_reason("Ready", "False Progressing")
    containers = [{"name": "worker", "image": "evil:1", "env": [{"name": "A", "value": "2"}]}]
    patch = {"spec": {"replicas": 9, "template": {"spec": {"containers": containers}}}}
    path = f"/apis/apps/v1/namespaces/{place.namespace}/deployments/emails?fieldManager=kubectl-edit"
    place.api.request("PATCH", path, patch, "application/strategic-merge-patch+json")
    after = place.await_deployment(has_replicas(1))
    (worker,) = after["spec"]["template"]["spec"]["containers"]
    assert worker == before["spec"]["template"]["spec"]["containers"][0]
    events = eventually(
        lambda: place.api.list("Event", place.namespace),
        lambda seen: any(e["reason"] == "Repaired" for e in seen),
        what="event",
    )
    assert [e["message"] for e in events if e["reason"] == "Repaired"] == [
        "Deployment emails: spec.replicas is 9, not 1; last changed by kubectl-edit"
    ]


def test_what_others_add_to_the_deployment_is_left(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    before = place.await_deployment()
    place.await_reason("Ready", "False Progressing")
    control_plane.kubectl("rollout", "-n", place.namespace, "restart", "deployment/emails")
    place.pool(replicas=2)
    after = place.await_deployment(has_replicas(2))
    annotations = after["spec"]["template"]["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/restartedAt"]
    assert template_hash(after) == template_hash(before)


def test_a_deleted_deployment_comes_back(place: Place) -> None:
    place.pool()
    before = place.await_deployment()
    place.api.delete("Deployment", place.namespace, "emails")
    after = place.await_deployment(lambda seen: seen["metadata"]["uid"] != before["metadata"]["uid"])
    assert after["spec"]["template"] == before["spec"]["template"]


def test_a_deployment_whose_labels_were_taken_off_is_found_again(place: Place) -> None:
    place.pool()
    before = place.await_deployment()
    place.api.merge("Deployment", place.namespace, "emails", {"metadata": {"labels": {labels.MANAGED_BY: None}}})
    after = place.await_deployment(lambda seen: labels.MANAGED_BY in seen["metadata"]["labels"])
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_removed_field_is_removed(place: Place) -> None:
    place.pool(env=[{"name": "A", "value": "1"}], template={"spec": {"nodeSelector": {"disk": "fast"}}})
    place.await_deployment(lambda seen: "nodeSelector" in seen["spec"]["template"]["spec"])
    place.pool()
    after = place.await_deployment(lambda seen: "nodeSelector" not in seen["spec"]["template"]["spec"])
    (worker,) = after["spec"]["template"]["spec"]["containers"]
    assert "A" not in [variable["name"] for variable in worker["env"]]


def test_suspending_drains_and_resuming_starts_again(place: Place) -> None:
    place.pool(replicas=2)
    place.make_ready(place.await_pods(2))
    place.await_reason("Ready", "True Ready")
    place.pool(replicas=2, suspend=True)
    place.await_deployment(has_replicas(0))
    place.await_reason("Ready", "True Suspended")
    place.pool(replicas=2, suspend=False)
    place.await_deployment(has_replicas(2))


def test_a_deleted_pool_takes_everything_with_it(place: Place) -> None:
    place.pool(sentry={"dsn": "https://key@sentry.example/1"})
    place.await_deployment()
    eventually(lambda: place.get("Secret", "emails-sentry"), what="Secret")
    place.api.delete("CeleryWorkerPool", place.namespace, "emails")
    for kind, name in (("Deployment", "emails"), ("Secret", "emails-sentry")):
        # Kubernetes' garbage collector looks for new kinds every 30 s, and this cluster has only just got ours.
        eventually(lambda: place.get(kind, name), lambda seen: seen is None, timeout=50, what=f"end of {kind}")  # noqa: B023 -- used at once


def test_a_pool_that_is_deleted_and_made_anew_gets_a_new_deployment(place: Place) -> None:
    place.pool()
    before = place.await_deployment()
    place.api.delete("CeleryWorkerPool", place.namespace, "emails")
    place.pool()
    after = place.await_deployment(lambda seen: seen["metadata"]["uid"] != before["metadata"]["uid"])
    pool = place.get("CeleryWorkerPool")
    assert pool is not None
    assert after["metadata"]["ownerReferences"][0]["uid"] == pool["metadata"]["uid"]


def test_pools_of_one_name_in_two_namespaces_do_not_know_each_other(place: Place, api: Any) -> None:
    namespace = f"{place.namespace}-other"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    other = Place(api=api, namespace=namespace)
    place.pool(image="one:1")
    other.pool(image="two:1")
    assert place.await_deployment()["spec"]["template"]["spec"]["containers"][0]["image"] == "one:1"
    assert other.await_deployment()["spec"]["template"]["spec"]["containers"][0]["image"] == "two:1"
    place.api.delete("CeleryWorkerPool", place.namespace, "emails")
    eventually(lambda: place.get("Deployment"), lambda seen: seen is None, what="end of the Deployment")
    assert other.get("Deployment")


FOREIGN = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}},
    },
}


def test_a_foreign_deployment_is_never_taken_over(place: Place) -> None:
    theirs = place.api.create("Deployment", place.namespace, {**FOREIGN, "metadata": {"name": "emails"}})
    place.pool()
    message = place.await_reason("Stalled", "True NameConflict")["message"]
    assert message == (
        "a Deployment named emails exists and does not belong to Celeriac: rename the pool or remove the Deployment"
    )
    still = place.get("Deployment")
    assert still is not None
    assert still["spec"] == theirs["spec"]
    assert {entry["manager"] for entry in still["metadata"]["managedFields"]}.isdisjoint({"celeriac"})
    place.api.delete("Deployment", place.namespace, "emails")
    place.pool(replicas=2)  # or wait for half a minute: what is not ours is not watched
    place.await_deployment(lambda seen: seen["spec"]["template"]["spec"]["containers"][0]["name"] == "worker")
    place.await_reason("Ready", "False Progressing")


BROKER = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}


def test_a_missing_secret_stalls_until_it_is_there_and_a_changed_one_replaces_the_workers(
    place: Place, operator: Operator
) -> None:
    place.pool(**BROKER)
    message = place.await_reason("Stalled", "True SecretNotFound")["message"]
    assert message == f"Secret redis does not exist in namespace {place.namespace}: the pool reads its key url"
    place.secret("redis", other="x")
    eventually(
        lambda: place.conditions()["Stalled"]["message"],
        lambda m: m == "Secret redis has no key url",
        what="other message",
    )
    place.secret("redis", url="redis://:hunter2@redis/0")
    place.await_reason("Ready", "False Progressing")
    place.make_ready(place.await_pods(1))
    place.await_reason("Ready", "True Ready")
    first = template_hash(place.await_deployment())
    place.secret("redis", url="redis://:hunter3@redis/0")
    changed = place.await_deployment(lambda seen: template_hash(seen) != first)
    place.api.delete("Secret", place.namespace, "redis")
    place.pool(replicas=2, **BROKER)
    assert template_hash(place.await_deployment(has_replicas(2))) == template_hash(changed)
    assert "hunter" not in json.dumps(
        [place.get("CeleryWorkerPool"), changed, place.api.list("Event", place.namespace)]
    )
    assert "hunter" not in operator.text()


def test_a_dsn_from_a_secret_is_judged_and_followed_without_a_restart(place: Place) -> None:
    place.pool(sentry={"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}})
    place.await_reason("SentryConfigured", "False SecretNotFound")
    before = template_hash(place.await_deployment())
    place.secret("sentry", dsn="not a dsn")
    place.await_reason("SentryConfigured", "False InvalidDSN")
    place.secret("sentry", dsn="https://key@sentry.example/1")
    place.await_reason("SentryConfigured", "True Configured")
    place.api.delete("Secret", place.namespace, "sentry")
    place.await_reason("SentryConfigured", "False SecretNotFound")
    assert template_hash(place.await_deployment()) == before
    place.make_ready(place.await_pods(1))
    place.await_reason("Ready", "True Ready")


def test_an_inline_dsn_moves_into_an_owned_secret_that_is_kept_right(place: Place) -> None:
    place.pool(sentry={"dsn": "https://key@sentry.example/1"})
    place.await_reason("SentryConfigured", "True Configured")
    first = eventually(lambda: place.get("Secret", "emails-sentry"), what="Secret")
    assert "sentry.example" not in json.dumps(place.await_deployment())
    place.api.merge("Secret", place.namespace, "emails-sentry", {"data": {"dsn": "eA=="}})
    eventually(
        lambda: place.get("Secret", "emails-sentry"), lambda seen: seen["data"] == first["data"], what="repaired Secret"
    )
    place.api.delete("Secret", place.namespace, "emails-sentry")
    eventually(lambda: place.get("Secret", "emails-sentry"), what="Secret again")
    place.pool(sentry={"dsn": "https://other@sentry.example/1"})
    eventually(
        lambda: place.get("Secret", "emails-sentry"), lambda seen: seen["data"] != first["data"], what="other DSN"
    )
    place.pool()
    eventually(lambda: place.get("Secret", "emails-sentry"), lambda seen: seen is None, what="end of the Secret")


def test_a_foreign_secret_of_the_name_is_left_alone(place: Place) -> None:
    place.secret("emails-sentry", dsn="theirs")
    theirs = place.get("Secret", "emails-sentry")
    place.pool(sentry={"dsn": "https://key@sentry.example/1"})
    place.await_reason("SentryConfigured", "False NameConflict")
    place.await_deployment()
    still = place.get("Secret", "emails-sentry")
    assert theirs is not None
    assert still is not None
    assert still["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param(
            {"containers": [{"name": "proxy"}]}, "spec.template.spec.containers[1].image: Required", id="invalid"
        ),
        pytest.param({"nodeSelectors": {}}, "field not declared in schema", id="unknown"),
        pytest.param({"restartPolicy": "Never"}, 'supported values: "Always"', id="not for a Deployment"),
        pytest.param({"volumes": [{}]}, "an item of template.spec.volumes has no name", id="not to be merged"),
        pytest.param({"containers": [{"name": "worker", "resources": "x"}]}, "resources", id="of the wrong shape"),
    ],
)
def test_a_template_that_cannot_be_used_stalls_with_the_servers_sentence_and_can_be_mended(
    place: Place, spec: dict[str, Any], sentence: str
) -> None:
    place.pool()
    before = place.await_deployment()
    place.pool(template={"spec": spec})
    assert sentence in place.await_reason("Stalled", "True InvalidTemplate")["message"]
    still = place.get("Deployment")
    assert still is not None
    assert still["spec"] == before["spec"]
    place.pool()
    place.await_reason("Ready", "False Progressing")
    assert "Stalled" not in place.conditions()


def test_the_health_endpoint_and_the_metrics_answer(operator: Operator, place: Place) -> None:
    place.pool()
    place.await_deployment()
    operator.idle()
    assert operator.metric('celeriac_operator_reconciles_total{result="done"}') > 0
    assert operator.metric("celeriac_operator_reconcile_duration_seconds_count") > 0
    assert operator.metric("celeriac_operator_pools") > 0
    assert operator.metric("celeriac_operator_queue_oldest_seconds") >= 0
    assert operator.metric("celeriac_operator_leader") == 1
    assert operator.metric('celeriac_operator_pool_conditions{reason="Progressing",status="False",type="Ready"}') > 0
    created = 'celeriac_operator_api_requests_total{code="201",resource="deployments",verb="PATCH"}'
    assert operator.metric(created) > 0
    assert operator.metric('celeriac_operator_watch_last_event_timestamp_seconds{kind="CeleryWorkerPool"}') > 1e9
    assert operator.healthy()


def test_a_namespace_that_is_deleted_is_no_reason_to_warn(
    place: Place, control_plane: ControlPlane, operator: Operator
) -> None:
    for name in ("emails", "reports", "labels"):
        place.pool(name, sentry={"dsn": "https://key@sentry.example/1"})
    for name in ("emails", "reports", "labels"):
        place.await_deployment(name=name)
        place.await_reason("Ready", "False Progressing", name)
    control_plane.kubectl("delete", "namespace", place.namespace, "--wait=false")
    eventually(
        lambda: control_plane.kubectl("get", "namespace", place.namespace, "--ignore-not-found"),
        lambda text: text == "",
        what="the namespace's end",
    )
    operator.idle()
    mine = [line for line in operator.text().splitlines() if place.namespace in line]
    assert [line for line in mine if "WARNING" in line or "ERROR" in line] == []
