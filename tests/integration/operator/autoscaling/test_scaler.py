"""The autoscaler: a real Redis, a real API server with its controllers, and the operator with its own rights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.operator.machine import Manifest, Operator, Place
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

QUEUE = "mail"
TURNS = ("ScalingUp", "ScalingDown")


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with server.client as it:
        yield it


def scaled_pool(place: Place, url: str, name: str = "emails", **autoscaling: Any) -> Manifest:
    """A pool that scales: five messages for each worker, down without delay."""
    asked = {
        "minReplicas": 0,
        "maxReplicas": 8,
        "target": {"backlogPerReplica": 5},
        "scaleDown": {"stabilizationSeconds": 0},
        **autoscaling,
    }
    return place.pool(name, queues=[QUEUE], broker={"url": url}, autoscaling=asked)


def replicas(place: Place, name: str = "emails") -> int | None:
    pool = place.get("CeleryWorkerPool", name)
    return pool["spec"]["replicas"] if pool else None


def await_replicas(place: Place, count: int, name: str = "emails") -> None:
    eventually(lambda: replicas(place, name), lambda seen: seen == count, timeout=30, what=f"{count} replicas")
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == count, name)


def await_status(place: Place, accept: Any) -> Manifest:
    found: Manifest = eventually(
        lambda: (place.get("CeleryWorkerPool") or {}).get("status", {}), accept, timeout=90, what="such status"
    )
    return found


def test_from_zero_to_many_and_back_with_the_reasons(place: Place, server: RedisServer, client: Any) -> None:
    scaled_pool(place, server.url)
    await_replicas(place, 0)
    resting = place.await_reason("Ready", "True ScaledToZero")
    assert resting["message"] == "no message waits, and no worker is needed"
    began = time.monotonic()
    client.lpush(QUEUE, *map(str, range(12)))
    await_replicas(place, 3)
    took = time.monotonic() - began
    assert took < 5, took
    status = await_status(place, lambda seen: (seen.get("scaling") or {}).get("desiredReplicas") == 3)
    assert status["scaling"]["reason"] == "backlog 12 / 5 per replica"
    latest, first = status["scaling"]["decisions"]
    assert (latest["fromReplicas"], latest["toReplicas"], latest["backlog"], latest["inFlight"]) == (0, 3, 12, 0)
    assert (first["fromReplicas"], first["toReplicas"], first["reason"]) == (1, 0, "backlog 0 / 5 per replica")
    assert status["lastScaleTime"] == latest["time"]
    assert status["desiredReplicas"] == 3
    assert place.reasons()["ScalingActive"] == "True Active"
    # What workers hold counts as well, so the last one stays as long as one message is in flight.
    client.delete(QUEUE)
    client.hset("celeriac:held:{mail}", "w:1", "4:mailx")
    await_replicas(place, 1)
    client.delete("celeriac:held:{mail}")
    await_replicas(place, 0)
    told = eventually(
        lambda: [e["reason"] for e in place.api.list("Event", place.namespace) if e["reason"] in TURNS],
        lambda seen: len(seen) >= 3,
        what="events of both directions",
    )
    assert sorted(told) == ["ScalingDown", "ScalingDown", "ScalingUp"]


def test_a_broker_that_is_away_changes_nothing_until_it_is_back(place: Place, server: RedisServer, client: Any) -> None:
    client.lpush(QUEUE, *map(str, range(10)))
    scaled_pool(place, server.url)
    await_replicas(place, 2)
    server.kill()
    frozen = place.await_reason("ScalingActive", "False BrokerUnreachable")
    assert frozen["message"].startswith("held at 2: ")
    assert replicas(place) == 2
    server.start()  # and it has forgotten all
    await_replicas(place, 0)
    place.await_reason("ScalingActive", "True Active")


def test_credentials_come_from_the_secret_and_change_with_it(place: Place, server: RedisServer, client: Any) -> None:
    client.acl_setuser("scaler", enabled=True, passwords=["+first-word"], keys=["*"], commands=["+@all"])
    address = server.url.partition("://")[2]
    autoscaling = {
        "maxReplicas": 8,
        "target": {"backlogPerReplica": 5},
        "scaleDown": {"stabilizationSeconds": 0},
    }
    place.pool(
        queues=[QUEUE], broker={"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}, autoscaling=autoscaling
    )
    missing = place.await_reason("ScalingActive", "False SecretNotFound")
    assert missing["message"] == "held at 1: Secret redis does not exist"
    place.secret("redis", url=f"redis://scaler:wrong-word@{address}")
    refused = place.await_reason("ScalingActive", "False AuthenticationFailed")
    assert "wrong-word" not in refused["message"]
    client.lpush(QUEUE, *map(str, range(10)))
    place.secret("redis", url=f"redis://scaler:first-word@{address}\n")
    place.await_reason("ScalingActive", "True Active")
    await_replicas(place, 2)


def test_an_autoscaler_that_is_overwritten_repeatedly_pauses(place: Place, server: RedisServer, client: Any) -> None:
    client.lpush(QUEUE, *map(str, range(10)))
    scaled_pool(place, server.url)
    for _ in range(3):
        await_replicas(place, 2)
        place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"replicas": 5}})
    contested = place.await_reason("ScalingActive", "False Contested")
    assert contested["message"].startswith("held at 5: another writer has changed replicas 3 times within 120 s")
    assert replicas(place) == 5


def test_a_person_can_hold_the_number(place: Place, server: RedisServer, client: Any) -> None:
    client.lpush(QUEUE, *map(str, range(10)))
    scaled_pool(place, server.url)
    await_replicas(place, 2)

    def annotate(word: str | None) -> None:
        annotations = {"celeriac.dev/pause-scaling": word}
        place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"metadata": {"annotations": annotations}})

    annotate("both")
    held = place.await_reason("ScalingActive", "False Paused")
    assert held["message"] == "held at 2: celeriac.dev/pause-scaling is both"
    annotate("in")
    active = place.await_reason("ScalingActive", "True Active")
    assert active["message"].endswith("; celeriac.dev/pause-scaling is in")
    client.lpush(QUEUE, *map(str, range(10)))
    await_replicas(place, 4)
    annotate("stop")
    held = place.await_reason("ScalingActive", "False Paused")
    assert held["message"] == "held at 4: celeriac.dev/pause-scaling is stop, which is not in, out or both"
    place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"suspend": True}})
    place.await_reason("ScalingActive", "False Disabled")
    client.delete(QUEUE)
    annotate(None)
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == 0)
    assert replicas(place) == 4
    place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"suspend": None}})
    await_replicas(place, 0)


def test_backlog_is_told_seldom_and_goes_with_the_queues(
    place: Place, server: RedisServer, client: Any, operator: Operator
) -> None:
    client.lpush(QUEUE, "a", "b")
    pool = scaled_pool(place, server.url, minReplicas=1)
    place.await_reason("ScalingActive", "True Active")
    status = await_status(place, lambda seen: seen.get("queues"))
    assert (status["queues"], status["backlog"]) == ([{"name": QUEUE, "backlog": 2}], 2)
    operator.idle()
    version = (place.get("CeleryWorkerPool") or {})["metadata"]["resourceVersion"]
    client.lpush(QUEUE, "c")
    name = f'celeriac_operator_scaling_backlog_messages{{pool="emails",pool_namespace="{place.namespace}"}}'
    eventually(lambda: operator.metric(name), lambda seen: seen == 3, what="the next round")
    assert (place.get("CeleryWorkerPool") or {})["metadata"]["resourceVersion"] == version
    place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"autoscaling": None}})
    eventually(place.reasons, lambda seen: "ScalingActive" not in seen, what="no word of scaling")
    status = (place.get("CeleryWorkerPool") or {})["status"]
    assert "backlog" in status, "without autoscaling it is still reported"
    place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"queues": None}})
    status = await_status(place, lambda seen: "queues" not in seen)
    assert {"backlog", "scaling"}.isdisjoint(status)
    assert pool["metadata"]["uid"] == (place.get("CeleryWorkerPool") or {})["metadata"]["uid"]


def test_nothing_of_all_this_was_an_error(operator: Operator) -> None:
    assert [line for line in operator.text().splitlines() if " ERROR " in line] == []
