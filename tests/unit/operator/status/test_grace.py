"""When does a pool that fails become Stalled, and what do tools that wait for it see meanwhile?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.operator.factories import NOW, a_case, a_deployment, a_pod, a_pool, counts, seen

from celeriac_operator.reasons import Cause
from celeriac_operator.resource import Status
from celeriac_operator.status import compute, stalled
from celeriac_operator.status.case import Refusal

GRACE = 90


def kstatus(pool: Mapping[str, Any]) -> str:
    """The status of an object by the rules of kstatus (sigs.k8s.io/cli-utils), which Helm 4, Flux and kpt use."""
    status = pool.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    if status.get("observedGeneration", pool["generation"]) != pool["generation"]:
        return "InProgress"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def report(cause: Cause, *, later: float, status: Status | None = None, generation: int = 1) -> compute.Report:
    pool = a_pool(generation=generation)
    if status is not None:
        pool = pool.model_copy(update={"status": status})
    refusal = Refusal(cause=cause, message="no")
    return compute.compute(a_case(seen(pool), refusal=refusal, later=later, grace=GRACE))


def state(found: compute.Report, generation: int = 1) -> str:
    return kstatus({"generation": generation, "status": found.status.model_dump(by_alias=True, mode="json")})


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause not in stalled.PERMANENT])
def test_a_cause_that_may_go_away_stalls_after_the_grace_period(cause: Cause) -> None:
    first = report(cause, later=0)
    assert state(first) == "InProgress"
    ready, reconciling = first.status.conditions[:2]
    assert (ready.reason, reconciling.type, reconciling.reason) == (cause, "Reconciling", cause)
    assert first.recheck_seconds == GRACE
    assert first.status.failing_since == NOW
    assert state(report(cause, later=GRACE - 1, status=first.status)) == "InProgress"
    last = report(cause, later=GRACE, status=first.status)
    assert state(last) == "Failed"
    assert last.status.failing_since == NOW


@pytest.mark.parametrize("cause", stalled.PERMANENT)
def test_a_cause_that_cannot_go_away_stalls_at_once(cause: Cause) -> None:
    assert state(report(cause, later=0)) == "Failed"


def test_another_cause_does_not_begin_the_grace_period_again_but_a_change_of_the_pool_does() -> None:
    first = report(Cause.SECRET_NOT_FOUND, later=0)
    assert state(report(Cause.UNSCHEDULABLE, later=GRACE, status=first.status)) == "Failed"
    changed = report(Cause.SECRET_NOT_FOUND, later=GRACE, status=first.status, generation=2)
    assert state(changed, 2) == "InProgress"


def test_a_pool_that_works_again_is_not_failing() -> None:
    first = report(Cause.SECRET_NOT_FOUND, later=0)
    pool = a_pool().model_copy(update={"status": first.status})
    well = compute.compute(
        a_case(seen(pool, deployment=a_deployment(pool, status=counts(1, 1))), later=10, grace=GRACE)
    )
    assert state(well) == "Current"
    assert well.status.failing_since is None


@pytest.mark.parametrize(
    ("spec", "deployment", "expected"),
    [
        pytest.param({"replicas": 0}, counts(0, 0), "Current", id="no replicas"),
        pytest.param({"suspend": True}, counts(0, 0), "Current", id="suspended"),
        pytest.param({"replicas": 2}, counts(2, 2), "Current", id="all workers are ready"),
        pytest.param({"replicas": 2}, counts(2, 1), "InProgress", id="one worker is not ready"),
        pytest.param({"replicas": 2}, counts(3, 2, updated=1), "InProgress", id="a change is rolled out"),
    ],
)
def test_what_tools_that_wait_see(spec: dict[str, Any], deployment: dict[str, Any], expected: str) -> None:
    pool = a_pool(**spec)
    found = compute.compute(a_case(seen(pool, deployment=a_deployment(pool, status=deployment)), grace=GRACE))
    assert state(found) == expected


@pytest.mark.parametrize("spec", [{"replicas": 0}, {"suspend": True}], ids=str)
def test_a_pool_that_goes_to_zero_is_ready_once_its_workers_have_drained(spec: dict[str, Any]) -> None:
    pool = a_pool(**spec)
    draining = seen(pool, deployment=a_deployment(pool, status=counts(1, 1)), pods=[a_pod(pool, ready=True)])
    assert state(compute.compute(a_case(draining, grace=GRACE))) == "InProgress"
