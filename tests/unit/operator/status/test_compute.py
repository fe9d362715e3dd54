from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.factories import (
    NOW,
    a_case,
    a_container,
    a_deployment,
    a_pod,
    a_pool,
    counts,
    seen,
)

from celeriac_operator.decide.plan import Plan
from celeriac_operator.decide.secrets import ABSENT
from celeriac_operator.resource import CeleryWorkerPool, Condition, LastStalled, Status
from celeriac_operator.status import compute as status
from celeriac_operator.status import events, writing

DSN = {"sentry": {"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}}}
READY_POD = a_container(ready=True, started=True, running_for=60)
BROKEN = a_container(waiting=("ErrImagePull", "not found"))


def compute(
    pool: CeleryWorkerPool,
    *,
    deployment_status: dict[str, Any] | None = None,
    pods: list[dict[str, Any]] | None = None,
    facts: dict[str, Any] | None = None,
    plan: Plan | None = None,
    later: float = 0,
    generation: int = 1,
) -> status.Report:
    deployment = a_deployment(pool, status=deployment_status or {}, generation=generation)
    what = seen(pool, deployment=deployment, pods=pods or [], facts=facts)
    return status.compute(a_case(what, plan=plan, later=later))


def shown(report: status.Report) -> dict[str, tuple[str, str, str]]:
    return {each.type: (each.status, each.reason, each.message) for each in report.status.conditions}


@pytest.mark.parametrize(
    ("spec", "deployment_status", "pods", "expected"),
    [
        pytest.param(
            {"replicas": 2},
            counts(2, 2),
            [],
            {"Ready": ("True", "Ready", "2 workers are ready and consuming")},
            id="all are ready",
        ),
        pytest.param(
            {},
            {},
            [],
            {
                "Ready": ("False", "Progressing", "rolling out a change: 0 of 1 worker is updated"),
                "Reconciling": ("True", "Progressing", "rolling out a change: 0 of 1 worker is updated"),
            },
            id="Kubernetes has not looked at the Deployment",
        ),
        pytest.param(
            {"replicas": 3},
            counts(3, 1),
            [],
            {
                "Ready": ("False", "Progressing", "1 of 3 workers are ready"),
                "Reconciling": ("True", "Progressing", "1 of 3 workers are ready"),
            },
            id="workers are starting",
        ),
        pytest.param(
            {"replicas": 2},
            counts(3, 3, updated=1),
            [],
            {
                "Ready": ("False", "Progressing", "rolling out a change: 1 of 2 workers are updated"),
                "Reconciling": ("True", "Progressing", "rolling out a change: 1 of 2 workers are updated"),
            },
            id="a change rolls out, and all that run are ready",
        ),
        pytest.param(
            {"replicas": 0},
            counts(0, 0),
            [],
            {"Ready": ("True", "NoWorkers", "replicas is 0: no worker runs")},
            id="scaled to zero",
        ),
        pytest.param(
            {"suspend": True},
            counts(0, 0),
            [],
            {"Ready": ("True", "Suspended", "suspended: no worker runs")},
            id="suspended",
        ),
        pytest.param(
            {"suspend": True},
            counts(0, 0),
            [{"containers": [READY_POD], "deleting": True}],
            {
                "Ready": ("False", "Suspended", "suspended: workers are draining"),
                "Reconciling": ("True", "Progressing", "suspended: workers are draining"),
            },
            id="suspended, and a worker still drains",
        ),
        pytest.param(
            {},
            counts(1, 0),
            [{"containers": [BROKEN]}],
            {
                "Ready": ("False", "ImagePullFailed", "pod emails-1, container worker: not found"),
                "Stalled": ("True", "ImagePullFailed", "pod emails-1, container worker: not found"),
            },
            id="stalled: no Reconciling",
        ),
        pytest.param(
            {},
            counts(2, 1, updated=1),
            [
                {"containers": [BROKEN]},
                {"containers": [READY_POD], "name": "emails-0", "hash": "older", "ready": True},
            ],
            {
                "Ready": (
                    "False",
                    "ImagePullFailed",
                    "pod emails-1, container worker: not found; workers of the previous template keep running",
                ),
                "Stalled": (
                    "True",
                    "ImagePullFailed",
                    "pod emails-1, container worker: not found; workers of the previous template keep running",
                ),
            },
            id="a broken new image, while the old workers go on",
        ),
        pytest.param(
            {},
            counts(1, 0),
            [{"containers": [a_container(started=True, running_for=40)]}],
            {
                "Ready": (
                    "False",
                    "WorkersNotReady",
                    "pod emails-1 runs but does not consume; usually the broker cannot be reached: see kubectl logs "
                    "-n shop emails-1",
                )
            },
            id="the broker is away",
        ),
    ],
)
def test_ready_reconciling_and_stalled_when(
    spec: dict[str, Any],
    deployment_status: dict[str, Any],
    pods: list[dict[str, Any]],
    expected: dict[str, tuple[str, str, str]],
) -> None:
    pool = a_pool(**spec)
    made = [a_pod(pool, *pod["containers"], **{k: v for k, v in pod.items() if k != "containers"}) for pod in pods]
    found = shown(compute(pool, deployment_status=deployment_status, pods=made))
    del found["BrokerReachable"]
    assert found == expected


def test_waits_for_an_earlier_pools_deployment() -> None:
    found = shown(compute(a_pool(), plan=Plan(waiting_for="the Deployment emails of an earlier pool to be removed")))
    assert found["Ready"][2] == "waiting for the Deployment emails of an earlier pool to be removed"


def test_counts_and_names() -> None:
    found = compute(a_pool(replicas=3, generation=7), deployment_status=counts(3, 2)).status
    assert (found.replicas, found.ready_replicas, found.desired_replicas, found.ready) == (3, 2, 3, "2/3")
    assert found.selector == "app.kubernetes.io/name=celeriac-worker,celeriac.dev/pool=emails"
    assert (found.observed_generation, found.library) == (7, "celeriac-worker:1")
    assert (found.library_version, found.draining) == ("1", 0)


def test_workers_that_finish_their_tasks_are_counted() -> None:
    pool = a_pool()
    pods = [a_pod(pool, READY_POD, name=f"emails-{number}", deleting=number > 0) for number in range(3)]
    assert compute(pool, pods=pods).status.draining == 2


def test_an_old_deployment_status_is_not_taken_for_the_new_one() -> None:
    found = compute(a_pool(), deployment_status=counts(1, 1, generation=1), generation=2)
    assert shown(found)["Ready"][:2] == ("False", "Progressing")


def before(**ready: Any) -> dict[str, Any]:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "Progressing",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        **ready,
    }
    return {"conditions": [condition]}


@pytest.mark.parametrize(
    ("was", "changed"),
    [
        pytest.param({"status": "False"}, True, id="its status changed"),
        pytest.param({"status": "True", "reason": "Other", "message": "other"}, False, id="only its wording changed"),
    ],
)
def test_the_time_of_a_condition_moves_when(was: dict[str, Any], changed: bool) -> None:
    conditions = compute(a_pool(status=before(**was)), deployment_status=counts(1, 1)).status.conditions
    (condition,) = (each for each in conditions if each.type == "Ready")
    assert (condition.last_transition_time == NOW) == changed


def test_computing_twice_gives_the_same_status_whatever_the_hour() -> None:
    pool = a_pool(**DSN)
    first = compute(pool, deployment_status=counts(1, 1), facts={"sentry": ABSENT}).status
    again = pool.model_copy(update={"status": first})
    second = compute(again, deployment_status=counts(1, 1), facts={"sentry": ABSENT}, later=3600).status
    assert writing.is_same(first, second)


def test_a_round_trip_through_the_api_server_changes_nothing() -> None:
    first = compute(a_pool(**DSN), deployment_status=counts(1, 1), facts={"sentry": ABSENT}).status
    stored = first.model_dump(by_alias=True, exclude_none=True, mode="json")
    stored["conditions"].reverse()
    assert writing.is_same(first, Status.model_validate(stored))


@pytest.mark.parametrize(
    ("then", "minor"),
    [
        pytest.param(counts(3, 2), True, id="one more is ready"),
        pytest.param(counts(3, 3), False, id="all are ready"),
    ],
)
def test_a_change_is_minor_when(then: dict[str, Any], minor: bool) -> None:
    pool = a_pool(replicas=3)
    old = compute(pool, deployment_status=counts(3, 1)).status
    assert writing.is_minor(old, compute(pool, deployment_status=then).status) == minor


@pytest.mark.parametrize(
    ("old", "new", "minor"),
    [
        pytest.param(("Unknown", "NotKnown"), ("True", "Connected"), True, id="the first worker gets through"),
        pytest.param(("Unknown", "NotKnown"), ("False", "ConnectionRefused"), False, id="a worker gives up"),
    ],
)
def test_what_workers_say_of_the_broker_is_minor_when(old: Any, new: Any, minor: bool) -> None:
    assert writing.is_minor(a_status(BrokerReachable=old), a_status(BrokerReachable=new)) == minor


def test_a_worker_that_starts_is_given_time_to_reach_the_broker() -> None:
    pool = a_pool()
    pods = [a_pod(pool, a_container(started=True, running_for=10))]
    report = compute(pool, deployment_status=counts(1, 0), pods=pods)
    assert shown(report)["Ready"][1] == "Progressing"
    assert report.recheck_seconds == status.NOT_CONSUMING_SECONDS - 10


def test_a_worker_without_its_volumes_is_named_after_a_while() -> None:
    pool = a_pool()
    creating = a_container(waiting=("ContainerCreating", ""))

    def after(seconds: float) -> status.Report:
        pods = [a_pod(pool, creating, setting_up_for=seconds)]
        return compute(pool, deployment_status=counts(1, 0), pods=pods)

    report = after(10)
    assert shown(report)["Ready"] == ("False", "Progressing", "0 of 1 worker is ready")
    assert report.recheck_seconds == status.SET_UP_SECONDS - 10
    report = after(status.SET_UP_SECONDS)
    assert shown(report)["Ready"] == (
        "False",
        "Progressing",
        "pod emails-1 waits for its volumes or its network; usually a Secret or ConfigMap that it mounts does not "
        "exist: see kubectl describe pod -n shop emails-1",
    )
    assert report.recheck_seconds is None


def a_status(**conditions: tuple[str, str]) -> Status:
    stalled = conditions.get("Stalled")
    return Status(
        stalled=LastStalled(reason=stalled[1], since=NOW) if stalled else None,
        conditions=tuple(
            Condition(type=kind, status=value, reason=reason, message=f"about {reason}", last_transition_time=NOW)  # type: ignore[arg-type]  # of the table
            for kind, (value, reason) in conditions.items()
        ),
    )


NOT_READY = {"Ready": ("False", "Progressing")}
STALLED = {"Ready": ("False", "CrashLoop"), "Stalled": ("True", "CrashLoop")}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(NOT_READY, STALLED, [("Warning", "CrashLoop")], id="it stalls: a warning"),
        pytest.param(STALLED, STALLED, [], id="it stays stalled: silence"),
        pytest.param(
            STALLED,
            {"Ready": ("False", "OutOfMemory"), "Stalled": ("True", "OutOfMemory")},
            [("Warning", "OutOfMemory")],
            id="another cause: a warning",
        ),
        pytest.param(STALLED, {"Ready": ("True", "Ready")}, [("Normal", "Recovered")], id="it recovers"),
        pytest.param(NOT_READY, {"Ready": ("True", "Ready")}, [], id="it becomes ready in the ordinary way: silence"),
        pytest.param(
            NOT_READY,
            {**NOT_READY, "SentryConfigured": ("False", "InvalidDSN")},
            [("Warning", "InvalidDSN")],
            id="the DSN is bad: a warning",
        ),
        pytest.param(
            {**NOT_READY, "SentryConfigured": ("False", "InvalidDSN")},
            {**NOT_READY, "SentryConfigured": ("True", "Configured")},
            [],
            id="the DSN is good again: silence",
        ),
        pytest.param(
            NOT_READY,
            {**NOT_READY, "TimeLimitsEnforced": ("False", "PoolUnsupported")},
            [("Warning", "PoolUnsupported")],
            id="a time limit has no effect: a warning",
        ),
        pytest.param(
            NOT_READY,
            {**NOT_READY, "BrokerReachable": ("False", "ConnectionRefused")},
            [("Warning", "ConnectionRefused")],
            id="the broker is away: a warning",
        ),
        pytest.param(
            {**NOT_READY, "BrokerReachable": ("False", "ConnectionRefused")},
            {**NOT_READY, "BrokerReachable": ("True", "Connected")},
            [("Normal", "BrokerReachable")],
            id="and it is back",
        ),
        pytest.param(
            NOT_READY,
            {
                "Ready": ("False", "SecretNotFound"),
                "Stalled": ("True", "SecretNotFound"),
                "BrokerReachable": ("False", "SecretNotFound"),
            },
            [("Warning", "SecretNotFound")],
            id="the Secret with the broker's URL is missing: one warning, not two",
        ),
    ],
)
def test_events_when(
    old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    found = [(each.kind, each.reason) for each in events.between(a_status(**old), a_status(**new))]
    assert found == expected


def test_a_pool_that_cannot_be_read_keeps_its_counts_and_says_why() -> None:
    old = Status(replicas=3)
    found = status.unreadable(old, 4, "spec.app: Field required", NOW + timedelta(hours=1))
    assert (found.replicas, found.observed_generation) == (3, 4)
    assert {each.reason for each in found.conditions} == {"InvalidSpec"}
