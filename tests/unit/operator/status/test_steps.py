"""Each step that a person waits for is one event, and says what they asked for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.operator.factories import a_deployment, a_pool

from celeriac_operator.decide.plan import Apply, Delete
from celeriac_operator.manifest import Manifest
from celeriac_operator.resource import Condition, Status
from celeriac_operator.status import events, steps

NEW = 2
"""Generation of a pool whose last change the operator has not reported yet."""


def taken(before: Manifest | None, now: Manifest, *setters: str, status: Any = None, **spec: Any) -> list[str]:
    known = {"observedGeneration": 1, "image": "shop:1"} if status is None else status
    pool = a_pool(generation=NEW, status=known, **spec)
    uid = before["metadata"]["uid"] if before else ""
    action = Apply(manifest=now, uid=uid, reason="the annotation differs")
    return [f"{event.reason}: {event.message}" for event in steps.taken(pool, action, before, setters)]


def deployment(**spec: Any) -> Manifest:
    found: Manifest = copy.deepcopy(a_deployment(a_pool(**spec)))
    return found


def test_the_first_deployment_is_created() -> None:
    assert taken(None, deployment(replicas=3), status={}) == [
        f"Created: Deployment emails with 3 workers, image {a_pool().spec.image}"
    ]


def test_one_that_somebody_has_deleted_is_not_told_as_created() -> None:
    assert taken(None, deployment()) == []


@pytest.mark.parametrize(
    ("change", "spec", "setters", "expected"),
    [
        pytest.param({"image": "shop:2"}, {}, (), ["RollingOut: image shop:1 is replaced by shop:2"], id="image"),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {},
            (),
            ["RollingOut: the workers are replaced: containers[worker].env[A] has changed"],
            id="a variable",
        ),
        pytest.param(
            {"drain": {"timeoutSeconds": 7}},
            {},
            (),
            ["RollingOut: the workers are replaced: containers[worker].env[CELERIAC_CONFIG].value has changed"],
            id="a setting",
        ),
        pytest.param({"replicas": 5}, {}, ("kubectl",), ["Scaled: from 1 to 5 workers; set by kubectl"], id="by hand"),
        pytest.param({"replicas": 5}, {}, (), ["Scaled: from 1 to 5 workers"], id="by nobody that is recorded"),
        pytest.param({"replicas": 0}, {}, ("a", "b"), ["Scaled: from 1 to 0 workers; set by a; set by b"], id="by two"),
        pytest.param({"replicas": 0}, {"suspend": True}, ("x",), ["Scaled: from 1 to 0 workers; suspended"], id="off"),
        pytest.param(
            {"replicas": 3, "image": "shop:2"},
            {},
            (),
            ["RollingOut: image shop:1 is replaced by shop:2", "Scaled: from 1 to 3 workers"],
            id="both",
        ),
        pytest.param({}, {}, ("kubectl",), [], id="a label of the Deployment"),
    ],
)
def test_what_a_change_of_the_pool_causes(
    change: dict[str, Any], spec: dict[str, Any], setters: tuple[str, ...], expected: list[str]
) -> None:
    before, now = deployment(image="shop:1"), deployment(**{"image": "shop:1", **change})
    assert taken(before, now, *setters, **spec) == expected


def test_a_variable_that_is_taken_out_is_named_and_no_value_is_told() -> None:
    before, now = deployment(env=[{"name": "A", "value": "confidential"}]), deployment()
    assert taken(before, now) == ["RollingOut: the workers are replaced: containers[worker].env[A] has changed"]
    assert taken(now, before) == ["RollingOut: the workers are replaced: containers[worker].env[A] has changed"]


def test_the_autoscalers_numbers_have_events_of_their_own() -> None:
    autoscaling = {"maxReplicas": 5, "target": {"backlogPerReplica": 5}}
    before, now = deployment(), deployment(replicas=5)
    assert taken(before, now, queues=["a"], broker={"url": "redis://r"}, autoscaling=autoscaling) == []


def test_what_the_pool_did_not_ask_for_is_not_a_step_of_it() -> None:
    before, now = deployment(image="shop:1"), deployment(image="shop:2")
    assert taken(before, now, status={"observedGeneration": NEW, "image": "shop:1"}) == []
    pool = a_pool(generation=NEW)
    assert list(steps.taken(pool, Delete(kind="Deployment", name="emails", uid="1", reason=""), before, ())) == []


def a_status(ready: str, rolled_out: str | None) -> Status:
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "Ready" if ready == "True" else "Progressing",
        "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return Status(conditions=(Condition.model_validate(condition),), rolled_out=rolled_out)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(a_status("Unknown", None), a_status("True", "1"), ["RolledOut"], id="the first workers"),
        pytest.param(a_status("False", "1"), a_status("True", "2"), ["RolledOut"], id="a new template"),
        pytest.param(a_status("False", "1"), a_status("True", "1"), [], id="a worker has restarted"),
        pytest.param(a_status("True", "2"), a_status("True", "2"), [], id="nothing new"),
        pytest.param(a_status("True", None), a_status("True", "1"), [], id="a pool of an earlier release"),
    ],
)
def test_a_rollout_that_is_complete_is_told_once(old: Status, new: Status, expected: list[str]) -> None:
    assert [event.reason for event in events.between(old, new)] == expected
