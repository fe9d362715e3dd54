"""What a pool asks of the autoscaler: one table."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.factories import a_deployment, a_pool

from celeriac_operator import labels
from celeriac_operator.autoscaling import policy, scaling_request
from celeriac_operator.autoscaling.brokers.readings import Watched
from celeriac_operator.autoscaling.scaling_request import Source

SCALES: dict[str, Any] = {
    "queues": ["mail", "sms"],
    "broker": {"url": "redis://redis/0"},
    "autoscaling": {"maxReplicas": 8, "target": {"backlogPerReplica": 5}},
}


def test_a_pool_in_full() -> None:
    found = scaling_request.read(a_pool(replicas=3, suspend=True, **SCALES), None)
    assert found == scaling_request.ScalingRequest(
        watched=Watched("shop/emails", ("mail", "sms")),
        source=Source(url="redis://redis/0"),
        spec=policy.Spec(min_replicas=0, max_replicas=8, target=policy.BacklogPerReplica(messages=5)),
        replicas=3,
        is_suspended=True,
    )


def test_the_url_is_in_a_secret() -> None:
    broker = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    found = scaling_request.read(a_pool(**{**SCALES, "broker": broker}), None)
    assert found is not None
    assert found.source == Source(secret="redis", key="url")


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"broker": None}, id="no broker, stored under an older CRD"),
        pytest.param({"queues": None}, id="no queues, stored under an older CRD"),
    ],
)
def test_nothing_is_asked_with(missing: dict[str, Any]) -> None:
    assert scaling_request.read(a_pool(**{**SCALES, **missing}), None) is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param({"latencySeconds": 5}, policy.Latency(seconds=5), id="a latency"),
        pytest.param({"busySlotsPercent": 80}, policy.BusySlots(percent=80), id="busy slots"),
    ],
)
def test_targets(target: dict[str, int], expected: policy.Target) -> None:
    found = scaling_request.read(a_pool(**{**SCALES, "autoscaling": {"maxReplicas": 1, "target": target}}), None)
    assert found is not None
    assert found.spec.target == expected


def test_slots_are_those_that_the_workers_are_told() -> None:
    pool = a_pool(**SCALES, resources={"limits": {"cpu": "3500m"}})
    found = scaling_request.read(pool, a_deployment(pool))
    assert found is not None
    assert found.spec.slots == 4
    pool = a_pool(**SCALES, worker={"concurrency": 7})
    found = scaling_request.read(pool, None)
    assert found is not None
    assert found.spec.slots == 7


@pytest.mark.parametrize("value", ["", "{}", '{"worker": {"concurrency": "many"}}'])
def test_slots_of_a_document_that_says_nothing(value: str) -> None:
    pool = a_pool(**SCALES)
    deployment = a_deployment(pool)
    for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
        if variable["name"] == "CELERIAC_CONFIG":
            variable["value"] = value
    found = scaling_request.read(pool, deployment)
    assert found is not None
    assert found.spec.slots == 1


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("in", labels.Pause.IN, id="no fewer"),
        pytest.param("out", labels.Pause.OUT, id="no more"),
        pytest.param("both", labels.Pause.BOTH, id="neither"),
        pytest.param("", labels.Pause.BOTH, id="a word that means nothing: something was to be held"),
    ],
)
def test_pauses(word: str, expected: labels.Pause) -> None:
    assert labels.pause(a_pool(annotations={"celeriac.dev/pause-scaling": word}, **SCALES)) is expected


def test_the_queues_of_a_pool_without_autoscaling_are_only_reported() -> None:
    found = scaling_request.read(a_pool(**{**SCALES, "autoscaling": None}), None)
    assert found is not None
    assert (found.spec, found.watched) == (None, Watched("shop/emails", ("mail", "sms"), is_scaled=False))
