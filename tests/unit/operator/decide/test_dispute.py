"""When does the operator pause because somebody undoes what it applies, and when does it forget that?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.operator.factories import NOW, SETTINGS, a_case, a_deployment, a_pool, counts, seen, wanted

from celeriac_operator.decide import plan as plans
from celeriac_operator.decide.dispute import MAX_PAUSE, TIMES, WITHIN, Dispute
from celeriac_operator.decide.observed import Applied
from celeriac_operator.memory.caches import Key
from celeriac_operator.passes.disputes import Disputes
from celeriac_operator.status import compute

POOL = Key("shop", "emails")


def after(times: int, *, apart: float = 1.0) -> Dispute:
    dispute = Dispute()
    for number in range(times):
        dispute = dispute.corrected(NOW + timedelta(seconds=number * apart), "spec.replicas is 5, not 1")
    return dispute


@pytest.mark.parametrize(
    ("times", "seconds"), [(1, 0), (4, 0), (5, 10), (6, 20), (7, 40), (8, 80), (9, 160), (10, 300), (20, 300)]
)
def test_the_pause_grows(times: int, seconds: float) -> None:
    assert after(times).seconds_left(NOW + timedelta(seconds=times - 1)) == seconds


def test_rare_edits_are_no_dispute() -> None:
    assert not after(10, apart=WITHIN.total_seconds()).is_open


def test_it_is_over_when_nothing_was_corrected_for_a_while_after_the_pause() -> None:
    dispute = after(TIMES)
    assert dispute.until is not None
    assert not dispute.is_over(dispute.until + WITHIN - timedelta(seconds=1))
    assert dispute.is_over(dispute.until + WITHIN)
    assert dispute.seconds_to_end(dispute.until) == WITHIN.total_seconds()
    assert MAX_PAUSE > WITHIN


def test_what_is_over_is_forgotten() -> None:
    disputes = Disputes()
    for _ in range(TIMES):
        disputes.corrected(POOL, "Deployment", "x", NOW)
    assert disputes.of(POOL, NOW)["Deployment"].is_open
    assert disputes.of(POOL, NOW + timedelta(hours=1)) == {}
    disputes.corrected(POOL, "Deployment", "x", NOW)
    assert disputes.of(POOL, NOW) == {}
    disputes.forget(POOL)


def test_a_pause_holds_back_a_correction_but_no_change_of_the_pool() -> None:
    pool = a_pool(replicas=2)
    there = a_deployment(pool)
    there["spec"]["replicas"] = 5
    base = seen(pool, deployment=there)
    applied = Applied(digest=plans.digest(wanted(pool, "Deployment", library="celeriac-worker:1")), generation=0)
    for paused, expected in ((frozenset(), 1), (frozenset({"Deployment"}), 0)):
        what = type(base)(**{**vars(base), "applied": {"Deployment": applied}, "paused_kinds": paused})
        found = plans.build(what, SETTINGS)
        assert len(found.actions) == expected
        assert found.contested == (expected == 0)
    changed = type(base)(**{**vars(base), "paused_kinds": frozenset({"Deployment"})})
    assert len(plans.build(changed, SETTINGS).actions) == 1


def test_the_condition_names_the_difference() -> None:
    pool = a_pool()
    base = seen(pool, deployment=a_deployment(pool, status=counts(1, 1)))
    what = type(base)(**{**vars(base), "disputes": {"Deployment": after(3)}})
    conditions = {each.type: each for each in compute.compute(a_case(what, grace=90)).status.conditions}
    assert conditions["Stalled"].reason == "Contested"
    assert "spec.replicas is 5, not 1" in conditions["Ready"].message
