from __future__ import annotations

import base64
from collections import Counter, deque
from typing import Any

import pytest
from tests.unit.operator.factories import a_budget, a_container, a_deployment, a_pod, a_pool, a_replica_set

from celeriac_operator.decide import secrets
from celeriac_operator.decide.observed import Applied
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.memory.keeping import TOO_LARGE

EMAILS = Key("shop", "emails")
BROKER = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}


def pool(version: int = 1, name: str = "emails", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": "pool-uid",
            "resourceVersion": str(version),
            "managedFields": [{"manager": "x"}],
        },
        "spec": {"app": "a", "image": "b", **spec},
    }


def secret(version: int = 1, name: str = "redis", uid: str = "u", owner: str = "", **data: str) -> dict[str, Any]:
    owners = [{"kind": "CeleryWorkerPool", "name": owner, "uid": "pool-uid", "controller": True}] if owner else []
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid,
            "resourceVersion": str(version),
            "ownerReferences": owners,
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def deployment(version: int) -> dict[str, Any]:
    built = a_deployment(a_pool())
    built["metadata"]["resourceVersion"] = str(version)
    return built


def test_an_event_that_is_older_than_the_answer_to_a_write_is_no_news() -> None:
    caches = Caches()
    assert caches.observe_deployment(deployment(20)) == {EMAILS}
    assert caches.observe_deployment(deployment(19)) == set()
    assert caches.observe_deployment(deployment(20)) == set()


def test_the_answer_to_a_write_that_comes_after_the_deletion_brings_nothing_back() -> None:
    caches = Caches()
    caches.observe_deployment(deployment(20))
    assert caches.remove_deployment(EMAILS, 22) == {EMAILS}
    assert caches.observe_deployment(deployment(21)) == set()
    assert caches.deployments.get(EMAILS) is None
    assert caches.observe_deployment(deployment(23)) == {EMAILS}


def test_the_deletion_of_an_earlier_object_leaves_the_new_one() -> None:
    caches = Caches()
    caches.observe_deployment(deployment(30))
    assert caches.remove_deployment(EMAILS, 29) == set()
    assert caches.deployments.get(EMAILS) is not None


def test_only_what_a_budget_says_is_news_not_how_its_pods_are() -> None:
    caches = Caches()
    budget = a_budget(a_pool(replicas=2))

    def version(number: int, **more: Any) -> dict[str, Any]:
        return {**budget, "metadata": {**budget["metadata"], "resourceVersion": str(number)}, **more}

    assert caches.observe_budget(version(20)) == {EMAILS}
    assert caches.observe_budget(version(21, status={"currentHealthy": 1})) == set()
    assert caches.budgets.version(EMAILS) == 21
    assert caches.observe_budget(version(22, spec={"maxUnavailable": 9})) == {EMAILS}
    assert caches.remove_budget(EMAILS, 23) == {EMAILS}
    assert caches.budgets.get(EMAILS) is None


def test_managed_fields_are_not_kept() -> None:
    caches = Caches()
    caches.observe_pool(pool())
    kept = caches.pools.get(EMAILS)
    assert kept is not None
    assert "managedFields" not in kept["metadata"]


def test_a_pod_concerns_the_pool_that_its_label_names() -> None:
    caches, pod = Caches(), a_pod(a_pool(), a_container())
    assert caches.observe_pod(pod) == {EMAILS}
    assert [each.name for each in caches.observe(a_pool()).pods] == ["emails-1"]
    assert caches.remove_pod(Key("shop", "emails-1"), 99) == {EMAILS}
    assert caches.observe(a_pool()).pods == ()


def test_an_update_of_a_pod_that_no_rule_looks_at_wakes_nobody() -> None:
    caches, pod = Caches(), a_pod(a_pool(), a_container())
    caches.observe_pod(pod)
    pod["metadata"]["resourceVersion"] = "21"
    pod["status"]["podIP"] = "10.0.0.1"
    assert caches.observe_pod(pod) == set()
    pod["metadata"]["resourceVersion"] = "22"
    pod["status"]["containerStatuses"][0]["ready"] = True
    assert caches.observe_pod(pod) == {EMAILS}


def test_a_pod_of_no_pool_is_ignored() -> None:
    caches, pod = Caches(), a_pod(a_pool())
    pod["metadata"]["labels"] = {}
    assert caches.observe_pod(pod) == set()


def test_a_secret_concerns_the_pools_that_name_it() -> None:
    caches = Caches()
    caches.observe_pool(pool(1, **BROKER))
    caches.observe_pool(pool(2, name="reports", **BROKER))
    caches.observe_pool(pool(3, name="plain"))
    assert caches.observe_secret(secret(4, url="redis://r")) == {EMAILS, Key("shop", "reports")}


def test_of_a_secret_that_nobody_names_nothing_is_kept() -> None:
    caches = Caches()
    caches.observe_pool(pool())
    assert caches.observe_secret(secret(url="redis://:hunter2@r")) == set()
    assert len(caches.secrets) == 0


def test_no_value_of_a_secret_is_kept() -> None:
    caches = Caches()
    caches.observe_pool(pool(**BROKER))
    caches.observe_secret(secret(url="redis://:hunter2@r"))
    facts = caches.secrets.get(Key("shop", "redis"))
    assert "hunter2" not in repr(facts)
    assert base64.b64encode(b"redis://:hunter2@r").decode() not in repr(facts)


def test_what_is_known_of_a_secret_is_forgotten_with_the_last_pool_that_names_it() -> None:
    caches = Caches()
    caches.observe_pool(pool(1, **BROKER))
    caches.observe_pool(pool(2, name="reports", **BROKER))
    caches.observe_secret(secret(3, url="x"))
    caches.remove_pool(EMAILS, 4)
    assert len(caches.secrets) == 1
    caches.observe_pool(pool(5, name="reports"))
    assert len(caches.secrets) == 0


def test_an_owned_secret_concerns_its_pool_though_no_field_names_it() -> None:
    caches = Caches()
    assert caches.observe_secret(secret(name="emails-sentry", owner="emails")) == {EMAILS}
    assert "emails-sentry" in caches.observe(a_pool()).secrets


def test_a_secret_that_is_gone_is_known_to_be_gone() -> None:
    caches = Caches()
    caches.observe_pool(pool(**BROKER))
    caches.observe_secret(secret(5, url="x"))
    assert caches.remove_secret(Key("shop", "redis"), 6) == {EMAILS}
    assert caches.secrets.get(Key("shop", "redis")) == secrets.ABSENT
    assert caches.observe_secret(secret(7, uid="new", url="x")) == {EMAILS}


def test_a_secret_is_asked_for_once() -> None:
    caches, subject = Caches(), a_pool(**BROKER)
    caches.observe_pool(pool(**BROKER))
    assert caches.unknown_secrets(subject) == [Key("shop", "redis")]
    caches.note_secret(Key("shop", "redis"), secrets.ABSENT)
    assert caches.unknown_secrets(subject) == []


def test_an_event_that_comes_before_the_answer_to_a_read_wins() -> None:
    caches = Caches()
    caches.observe_pool(pool(**BROKER))
    caches.observe_secret(secret(5, url="x"))
    caches.note_secret(Key("shop", "redis"), secrets.ABSENT)
    facts = caches.secrets.get(Key("shop", "redis"))
    assert facts is not None
    assert facts.exists


@pytest.mark.parametrize("count", [0, 3])
def test_a_pool_that_cannot_be_read_names_no_secret(count: int) -> None:
    caches = Caches()
    broken = pool(**BROKER)
    broken["spec"]["replicas"] = f"{count} workers"
    assert caches.observe_pool(broken) == {EMAILS}
    assert caches.observe_secret(secret(2, url="x")) == set()


def test_a_spec_that_is_too_large_is_not_kept_and_the_pool_is() -> None:
    caches = Caches()
    large = [{"name": f"E{number}", "value": "x" * 100_000} for number in range(14)]
    caches.observe_pool(pool(env=large, replicas=3))
    kept = caches.pools.get(EMAILS)
    assert kept is not None
    assert kept["spec"] == {"replicas": 3, TOO_LARGE: True}
    caches.observe_pool(pool(version=2, env=large[:1]))
    assert caches.observe_pool(pool(version=2, env=large[:1])) == set()
    assert (caches.pools.get(EMAILS) or {})["spec"]["env"] == large[:1]


@pytest.mark.parametrize("applied", ["[" * 100_000, '{"spec": 1' + "0" * 5000 + "}", "\ud800", '{"spec": NaN}', "null"])
def test_whatever_is_in_the_annotation_of_kubectl_the_pool_is_taken_in(applied: str) -> None:
    caches = Caches()
    for version, replicas in ((1, 3), (2, 1)):
        manifest = pool(version, replicas=replicas)
        manifest["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": applied}
        assert caches.observe_pool(manifest) == {EMAILS}


def owners(**changes: Any) -> list[dict[str, Any]]:
    return [{**a_replica_set(a_pool()), **changes}]


FOREIGN: dict[str, dict[str, Any]] = {
    "no owner": {"ownerReferences": []},
    "an owner that does not control it": {"ownerReferences": owners(controller=False)},
    "another pool's ReplicaSet": {"ownerReferences": owners(name="other-5d8f7c")},
    "a ReplicaSet of another template": {"ownerReferences": owners(name="emails-0")},
    "a Job": {"ownerReferences": owners(kind="Job", apiVersion="batch/v1")},
    "a ReplicaSet of another group": {"ownerReferences": owners(apiVersion="evil.example/v1")},
    "no template's hash": {"labels": {"celeriac.dev/pool": "emails"}},
    "no pool's label": {"labels": {"pod-template-hash": "5d8f7c"}},
    "an empty pool's label": {"labels": {"celeriac.dev/pool": "", "pod-template-hash": "5d8f7c"}},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_pod_that_no_replica_set_of_the_pool_controls_does_not_speak_for_it(name: str) -> None:
    caches, pod = Caches(), a_pod(a_pool(), a_container(ready=True), ready=True)
    foreign = {**pod, "metadata": {**pod["metadata"], **FOREIGN[name]}}
    caches.observe_pool(pool())
    assert caches.observe_pod(foreign) == set()
    assert (caches.observe(a_pool()).pods, caches.workers(EMAILS)) == ((), ())
    key = Key("shop", pod["metadata"]["name"])
    assert caches.pods.version(key) == 20, "a comparison with the cluster finds nothing missing"
    assert caches.remove_pod(key, 21) == set()
    assert caches.pods.known() == []


def test_a_pod_that_loses_its_owner_stops_to_speak_for_the_pool() -> None:
    caches, pod = Caches(), a_pod(a_pool(), a_container())
    assert caches.observe_pod(pod) == {EMAILS}
    orphan = {**pod, "metadata": {**pod["metadata"], "ownerReferences": [], "resourceVersion": "21"}}
    assert caches.observe_pod(orphan) == {EMAILS}
    assert (caches.observe(a_pool()).pods, caches.workers(EMAILS)) == ((), ())


def test_a_condition_that_is_not_the_operators_is_not_counted() -> None:
    caches = Caches()
    conditions = [
        {"type": kind, "status": "True", "reason": reason}
        for kind, reason in (("Ready", "Ready"), ("Ready", "x" * 1000), ("forged", "Ready"))
    ]
    caches.observe_pool({**pool(), "status": {"conditions": conditions}})
    assert dict(caches.conditions()) == {("Ready", "True", "Ready"): 1}


def churn(caches: Caches, first: int, last: int) -> None:
    """Pools with everything that belongs to them come and go."""
    for number in range(first, last):
        name, version = f"pool-{number}", 100 * number
        key = Key("shop", name)
        caches.observe_pool(pool(version + 1, name, sentry={"dsn": "https://k@h/1"}))
        caches.observe_secret(secret(version + 2, f"{name}-sentry", owner=name, dsn="https://k@h/1"))
        made = deployment(version + 3)
        made["metadata"]["name"] = name
        caches.observe_deployment(made)
        caches.note_applied(key, "Deployment", Applied(digest="x", generation=1))
        worker = a_pod(a_pool(), a_container(), name=f"{name}-5d8f7c-1")
        worker["metadata"]["resourceVersion"] = str(version + 4)
        worker["metadata"]["labels"]["celeriac.dev/pool"] = name
        worker["metadata"]["ownerReferences"] = owners(name=f"{name}-5d8f7c")
        caches.observe_pod(worker)
        caches.remove_pool(key, version + 5)
        caches.remove_deployment(key, version + 6)
        caches.remove_pod(Key("shop", worker["metadata"]["name"]), version + 7)
        caches.note_applied(key, "Deployment", Applied(digest="x", generation=1))
        caches.remove_secret(Key("shop", f"{name}-sentry"), version + 8)


def entries(value: object) -> int:
    """How many entries all containers of an object have together."""
    if isinstance(value, (dict, Counter)):
        return len(value) + sum(entries(it) for it in value.values())
    if isinstance(value, (list, set, frozenset, tuple, deque)):
        return len(value) + sum(entries(it) for it in value)
    return sum(entries(it) for it in vars(value).values()) if type(value).__module__.endswith("caches") else 0


def test_nothing_stays_of_what_is_gone() -> None:
    caches = Caches()
    before = entries(caches)
    churn(caches, 0, 20)
    assert entries(caches) > before, "removals are remembered for a while"
    for _ in range(2):
        caches.forget_removed()
    assert entries(caches) == before


def test_a_removal_is_remembered_for_as_long_as_a_response_may_be_late() -> None:
    caches = Caches()
    caches.observe_deployment(deployment(20))
    caches.remove_deployment(EMAILS, 22)
    caches.forget_removed()
    assert caches.observe_deployment(deployment(21)) == set(), "one comparison later it is still remembered"
    caches.forget_removed()
    assert caches.deployments.known() == []
