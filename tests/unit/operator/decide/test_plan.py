from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.unit.operator.factories import (
    LIBRARY,
    SETTINGS,
    a_budget,
    a_deployment,
    a_pool,
    seen,
    some_facts,
    wanted,
)

from celeriac_operator import labels
from celeriac_operator.decide import observed, plan, references, secrets
from celeriac_operator.decide.observed import Applied
from celeriac_operator.decide.plan import Apply, Conflict, Delete
from celeriac_operator.resource import CeleryWorkerPool

BROKER = {"broker": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}
INLINE = {"sentry": {"dsn": "https://key@sentry.example/1"}}


def reasons(found: plan.Plan) -> list[str]:
    return [action.reason for action in found.actions]


def library(found: plan.Plan) -> str:
    (action,) = found.actions
    assert isinstance(action, Apply)
    return str(action.manifest["spec"]["template"]["spec"]["initContainers"][0]["image"])


def edited(deployment: dict[str, Any], **spec: Any) -> dict[str, Any]:
    deployment["spec"].update(spec)
    return deployment


def test_a_new_pool_gets_a_deployment_with_the_operators_library() -> None:
    found = plan.build(seen(a_pool()), SETTINGS)
    assert reasons(found) == ["it does not exist"]
    assert library(found) == SETTINGS.worker_image


def test_a_pool_that_is_as_it_should_be_needs_nothing() -> None:
    pool = a_pool()
    assert plan.build(seen(pool, deployment=a_deployment(pool)), SETTINGS).actions == ()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param({"replicas": 4}, "spec.replicas is 1, not 4", id="scaled"),
        pytest.param({"suspend": True}, "spec.replicas is 1, not 0", id="suspended"),
        pytest.param({"rollout": {"maxSurge": 2}}, "spec.strategy.rollingUpdate.maxSurge is 25%, not 2", id="rollout"),
    ],
)
def test_a_change_that_restarts_nobody_keeps_the_library(spec: dict[str, Any], reason: str) -> None:
    found = plan.build(seen(a_pool(**spec), deployment=a_deployment(a_pool())), SETTINGS)
    assert reasons(found) == [reason]
    assert library(found) == LIBRARY


def test_a_change_of_the_template_brings_the_newest_library() -> None:
    found = plan.build(seen(a_pool(image="shop:2"), deployment=a_deployment(a_pool())), SETTINGS)
    assert library(found) == SETTINGS.worker_image


def test_a_person_may_ask_for_the_newest_library() -> None:
    pool = a_pool(annotations={labels.UPGRADE_LIBRARY: "now"})
    assert library(plan.build(seen(pool, deployment=a_deployment(pool)), SETTINGS)) == SETTINGS.worker_image


def test_the_operator_may_be_set_to_upgrade_at_once() -> None:
    pool, settings = a_pool(), dataclasses.replace(SETTINGS, workers_upgrade="Immediately")
    assert library(plan.build(seen(pool, deployment=a_deployment(pool)), settings)) == SETTINGS.worker_image


def test_another_pull_policy_of_the_operator_restarts_nobody() -> None:
    pool, settings = a_pool(), dataclasses.replace(SETTINGS, worker_image_pull_policy="Always")
    assert plan.build(seen(pool, deployment=a_deployment(pool)), settings).actions == ()


def test_an_edited_deployment_is_put_right_with_the_library_it_had() -> None:
    pool = a_pool()
    deployment = a_deployment(pool)
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    found = plan.build(seen(pool, deployment=deployment), SETTINGS)
    assert reasons(found) == ["spec.template.spec.containers[worker].image is evil:1, not shop:1"]
    assert library(found) == LIBRARY


def test_a_removed_variable_is_noticed_by_the_hash() -> None:
    before, after = a_pool(env=[{"name": "A", "value": "1"}]), a_pool()
    deployment = a_deployment(before, library=SETTINGS.worker_image)
    (reason,) = reasons(plan.build(seen(after, deployment=deployment), SETTINGS))
    assert labels.TEMPLATE_HASH in reason


def test_what_the_server_made_of_the_last_apply_is_not_sent_again() -> None:
    pool = a_pool()
    deployment = edited(a_deployment(pool), revisionHistoryLimit=9)  # as if the server insisted
    manifest = wanted(pool, "Deployment")
    what = seen(pool, deployment=deployment)
    assert plan.build(what, SETTINGS).actions
    answered = dataclasses.replace(what, applied={"Deployment": Applied(digest=plan.digest(manifest), generation=1)})
    assert plan.build(answered, SETTINGS).actions == ()
    changed_since = dataclasses.replace(
        what, applied={"Deployment": Applied(digest=plan.digest(manifest), generation=0)}
    )
    assert plan.build(changed_since, SETTINGS).actions


@pytest.mark.parametrize(
    ("owners", "marks", "conflict"),
    [
        pytest.param([], {"app": "x"}, "", id="nobody's, without our labels"),
        pytest.param(
            [{"kind": "Rollout", "name": "x", "uid": "other", "controller": True}],
            None,
            "Rollout x",
            id="another owner's",
        ),
    ],
)
def test_a_foreign_deployment_is_left_alone(
    owners: list[dict[str, Any]], marks: dict[str, str] | None, conflict: str
) -> None:
    pool = a_pool()
    deployment = a_deployment(pool)
    deployment["metadata"]["ownerReferences"] = owners
    if marks is not None:
        deployment["metadata"]["labels"] = marks
    found = plan.build(seen(pool, deployment=deployment), SETTINGS)
    assert found.actions == ()
    assert found.conflicts == (Conflict(kind="Deployment", name="emails", owner=conflict),)


def test_a_deployment_left_behind_by_an_earlier_pool_is_adopted() -> None:
    pool = a_pool()
    deployment = a_deployment(pool)
    deployment["metadata"]["ownerReferences"] = []
    assert reasons(plan.build(seen(pool, deployment=deployment), SETTINGS)) == [
        "metadata.ownerReferences[pool-uid] is missing"
    ]


@pytest.mark.parametrize(
    "leaving",
    [
        pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, id="is being deleted"),
        pytest.param(
            {"ownerReferences": [{"kind": "CeleryWorkerPool", "name": "emails", "uid": "earlier", "controller": True}]},
            id="belongs to an earlier pool of this name",
        ),
    ],
)
def test_waits_for_a_deployment_that(leaving: dict[str, Any]) -> None:
    pool = a_pool()
    deployment = a_deployment(pool)
    deployment["metadata"].update(leaving)
    found = plan.build(seen(pool, deployment=deployment), SETTINGS)
    assert (found.actions, found.conflicts) == ((), ())
    assert found.waiting_for == "the Deployment emails of an earlier pool to be removed"


def test_a_pool_that_is_being_deleted_needs_nothing() -> None:
    pool = a_pool()
    metadata = pool.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    assert plan.build(seen(pool.model_copy(update={"metadata": metadata})), SETTINGS) == plan.Plan()


def test_a_template_that_cannot_be_merged_touches_nothing() -> None:
    pool = a_pool(template={"spec": {"volumes": [{}]}})
    found = plan.build(seen(pool, deployment=a_deployment(a_pool())), SETTINGS)
    assert found.actions == ()
    assert found.template_error.startswith("an item of template.spec.volumes has no name")


def digest_of(pool: CeleryWorkerPool, facts: secrets.Facts, deployment: dict[str, Any] | None = None) -> str | None:
    return plan.choose_digest(seen(pool, deployment=deployment, facts={"redis": facts}))


def test_a_changed_url_in_a_secret_changes_the_template() -> None:
    pool = a_pool(**BROKER)
    one, other = digest_of(pool, some_facts(url="redis://a")), digest_of(pool, some_facts(url="redis://b"))
    assert one != other
    assert digest_of(pool, some_facts(url="redis://a", other="changed")) == one


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(secrets.ABSENT, id="the Secret is gone"),
        pytest.param(secrets.UNREADABLE, id="the Secret may not be read"),
        pytest.param(some_facts(other="x"), id="the key is gone"),
    ],
)
def test_workers_that_run_are_left_alone_when(facts: secrets.Facts) -> None:
    pool = a_pool(**BROKER)
    deployment = a_deployment(pool, digest="before")
    assert digest_of(pool, facts, deployment) == "before"
    assert plan.build(seen(pool, deployment=deployment, facts={"redis": facts}), SETTINGS).actions == ()


def test_no_worker_is_asked_for_while_a_secret_with_a_url_is_missing() -> None:
    sentence = "Secret redis does not exist in namespace shop: the pool reads its key url"
    pool, absent = a_pool(**BROKER), {"redis": secrets.ABSENT}
    assert plan.build(seen(pool, facts=absent), SETTINGS) == plan.Plan(held=sentence)
    changed = seen(a_pool(image="shop:2", **BROKER), deployment=a_deployment(pool, digest="x"), facts=absent)
    assert plan.build(changed, SETTINGS) == plan.Plan(held=sentence)


@pytest.mark.parametrize(
    ("pool", "facts"),
    [
        pytest.param(a_pool(replicas=2, **BROKER), secrets.ABSENT, id="scaling while the Secret is missing"),
        pytest.param(a_pool(image="shop:2", **BROKER), secrets.UNREADABLE, id="a Secret that may not be read"),
        pytest.param(a_pool(image="shop:2", **BROKER), some_facts(url="redis://r"), id="a Secret that is there"),
    ],
)
def test_does_not_wait_for_a_secret(pool: CeleryWorkerPool, facts: secrets.Facts) -> None:
    deployment = a_deployment(a_pool(**BROKER), digest="x")
    found = plan.build(seen(pool, deployment=deployment, facts={"redis": facts}), SETTINGS)
    assert len(found.actions) == 1
    assert found.held == ""


def test_an_inline_dsn_is_written_before_the_deployment() -> None:
    found = plan.build(seen(a_pool(**INLINE)), SETTINGS)
    assert [action.manifest["kind"] for action in found.actions if isinstance(action, Apply)] == [
        "Secret",
        "Deployment",
    ]


@pytest.mark.parametrize(
    ("spec", "facts", "expected"),
    [
        pytest.param(
            INLINE,
            some_facts(owner_uid="pool-uid", dsn="https://key@sentry.example/1"),
            [],
            id="the DSN is there: nothing",
        ),
        pytest.param(
            INLINE,
            some_facts(owner_uid="pool-uid", dsn="https://old@sentry.example/1"),
            ["data.dsn differs"],
            id="another DSN is there: written",
        ),
        pytest.param(INLINE, some_facts(owner_uid="pool-uid"), ["data.dsn differs"], id="the key is gone: written"),
        pytest.param({}, some_facts(owner_uid="pool-uid"), ["the pool needs none"], id="no DSN any more: deleted"),
        pytest.param({}, some_facts(owner_uid="other"), [], id="somebody else's Secret: left"),
    ],
)
def test_the_owned_secret(spec: dict[str, Any], facts: secrets.Facts, expected: list[str]) -> None:
    pool = a_pool(**spec)
    found = plan.build(seen(pool, deployment=a_deployment(pool), facts={"emails-sentry": facts}), SETTINGS)
    assert reasons(found) == expected


def test_a_foreign_secret_of_the_name_is_left_alone_and_the_deployment_still_made() -> None:
    facts = some_facts(owner_uid="x", owner="SealedSecret emails-sentry", dsn="?")
    found = plan.build(seen(a_pool(**INLINE), facts={"emails-sentry": facts}), SETTINGS)
    assert found.conflicts == (Conflict(kind="Secret", name="emails-sentry", owner="SealedSecret emails-sentry"),)
    assert [action.manifest["kind"] for action in found.actions if isinstance(action, Apply)] == ["Deployment"]


@pytest.mark.parametrize(
    ("spec", "facts", "expected"),
    [
        pytest.param({"sentry": {}}, secrets.ABSENT, ["it does not exist"], id="a pool that names none: written"),
        pytest.param(
            {"sentry": {}},
            some_facts(owner_uid="pool-uid", dsn="https://all@sentry.example/1"),
            [],
            id="there: nothing",
        ),
        pytest.param(
            INLINE, some_facts(owner_uid="pool-uid", dsn="https://key@sentry.example/1"), [], id="inline: wins"
        ),
        pytest.param({}, secrets.ABSENT, [], id="a pool without a sentry section: left alone"),
        pytest.param(
            {"sentry": {"dsnFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}},
            secrets.ABSENT,
            [],
            id="a pool with a Secret of its own: left alone",
        ),
    ],
)
def test_the_operators_dsn_with(spec: dict[str, Any], facts: secrets.Facts, expected: list[str]) -> None:
    pool = a_pool(**spec)
    what = seen(pool, deployment=a_deployment(pool), facts={"emails-sentry": facts})
    found = plan.build(dataclasses.replace(what, default_dsn="https://all@sentry.example/1"), SETTINGS)
    assert reasons(found) == expected


def test_a_deletion_names_the_object_it_means() -> None:
    facts = some_facts(uid="that-one", owner_uid="pool-uid")
    pool = a_pool()
    (action,) = plan.build(seen(pool, deployment=a_deployment(pool), facts={"emails-sentry": facts}), SETTINGS).actions
    assert action == Delete(kind="Secret", name="emails-sentry", uid="that-one", reason=action.reason)


def test_an_apply_names_the_object_it_means() -> None:
    pool = a_pool(replicas=2)
    (action,) = plan.build(seen(pool, deployment=a_deployment(a_pool())), SETTINGS).actions
    assert action.uid == "deployment-uid"


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        pytest.param({}, set(), id="none"),
        pytest.param(BROKER, {"redis"}, id="the broker's"),
        pytest.param({"sentry": {"dsnFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}}, {"s"}, id="the DSN's"),
        pytest.param(
            {"notifications": {"slack": {"webhookFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}}},
            {"s"},
            id="the webhook's",
        ),
        pytest.param(INLINE, {"emails-sentry"}, id="the one of an inline DSN"),
        pytest.param({"sentry": {}}, {"emails-sentry"}, id="the one of the operator's DSN"),
        pytest.param({**BROKER, "resultBackend": BROKER["broker"]}, {"redis"}, id="one named twice"),
    ],
)
def test_secrets_that_concern_a_pool(spec: dict[str, Any], names: set[str]) -> None:
    assert references.secret_names(a_pool(**spec)) == names


def test_the_hash_that_is_compared_is_the_one_that_is_written() -> None:
    pool = a_pool()
    manifest = wanted(pool, "Deployment")
    assert observed.template_hash(manifest) == observed.template_hash(a_deployment(pool)) != ""


TWO = a_pool(replicas=2)


def budget_plan(pool: CeleryWorkerPool, budget: dict[str, Any] | None) -> plan.Plan:
    return plan.build(seen(pool, deployment=a_deployment(pool), budget=budget), SETTINGS)


def test_workers_come_before_their_budget() -> None:
    found = plan.build(seen(TWO, budget=None), SETTINGS)
    assert [action.manifest["kind"] for action in found.actions if isinstance(action, Apply)] == [
        "Deployment",
        "PodDisruptionBudget",
    ]


@pytest.mark.parametrize(
    ("pool", "budget", "expected"),
    [
        pytest.param(TWO, a_budget(TWO), [], id="is as it should be: nothing"),
        pytest.param(TWO, None, ["it does not exist"], id="is not there: made"),
        pytest.param(
            TWO, a_budget(TWO, maxUnavailable=2), ["spec.maxUnavailable is 2, not 1"], id="was edited: put right"
        ),
        pytest.param(a_pool(), a_budget(TWO), ["the pool needs none"], id="is not needed any more: deleted"),
        pytest.param(
            TWO,
            a_budget(TWO, selector={"matchLabels": {**labels.selector(TWO), "a": "b"}}),
            ["spec.selector is"],
            id="covers fewer workers, by somebody's additional label: put right",
        ),
        pytest.param(
            a_pool(replicas=2, disruption={"minAvailable": 1}),
            a_budget(TWO),
            ["spec.maxUnavailable must be removed"],
            id="has the other limit, which excludes this one: deleted, and made anew",
        ),
    ],
)
def test_a_budget_that(pool: CeleryWorkerPool, budget: dict[str, Any] | None, expected: list[str]) -> None:
    found = reasons(budget_plan(pool, budget))
    assert len(found) == len(expected)
    assert all(reason.startswith(words) for reason, words in zip(found, expected, strict=True))


@pytest.mark.parametrize("pool", [pytest.param(TWO, id="wanted"), pytest.param(a_pool(), id="not wanted")])
def test_a_foreign_budget_is_left_alone(pool: CeleryWorkerPool) -> None:
    budget = a_budget(TWO)
    budget["metadata"].update(ownerReferences=[{"kind": "Shop", "name": "x", "uid": "other", "controller": True}])
    found = budget_plan(pool, budget)
    assert found.actions == ()
    conflict = Conflict(kind="PodDisruptionBudget", name="emails", owner="Shop x")
    assert found.conflicts == ((conflict,) if pool is TWO else ())


@pytest.mark.parametrize("pool", [pytest.param(TWO, id="wanted"), pytest.param(a_pool(), id="not wanted")])
def test_a_budget_on_its_way_out_is_let_go(pool: CeleryWorkerPool) -> None:
    budget = a_budget(TWO)
    budget["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found = budget_plan(pool, budget)
    assert found.actions == ()
    assert bool(found.waiting_for) == (pool is TWO)
