"""The PodDisruptionBudget of a pool, with Kubernetes' own controllers and its eviction API."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.operator.machine import PATHS, Manifest, Place, RefusedError
from tests.waiting import eventually

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]  # many waits, on a busy machine too

KIND = "PodDisruptionBudget"


def await_budget(place: Place, **spec: Any) -> Manifest:
    """Wait until the pool's budget says this."""
    found: Manifest = eventually(
        lambda: place.get(KIND),
        lambda seen: seen is not None and spec.items() <= seen["spec"].items(),
        what="such budget",
    )
    return found


def evict(place: Place, pod: Manifest) -> None:
    """As kubectl drain does."""
    metadata = {"name": pod["metadata"]["name"], "namespace": place.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"{PATHS['Pod'].format(place.namespace)}/{metadata['name']}/eviction"
    place.api.request("POST", path, body)


def test_a_budget_comes_and_goes_with_the_second_worker_and_restarts_nobody(place: Place) -> None:
    place.pool()
    first = place.await_deployment()
    place.pool(replicas=2)
    budget = await_budget(place, maxUnavailable=1)
    assert budget["metadata"]["ownerReferences"][0]["kind"] == "CeleryWorkerPool"
    place.pool(replicas=2, disruption={"maxUnavailable": "50%"})
    await_budget(place, maxUnavailable="50%")
    place.pool(replicas=2, disruption={"minAvailable": 1})
    budget = await_budget(place, minAvailable=1)
    assert "maxUnavailable" not in budget["spec"]
    place.pool(replicas=2, suspend=True)
    await_budget(place, maxUnavailable=1)
    place.pool(replicas=1)
    eventually(lambda: place.get(KIND), lambda seen: seen is None, what="end of the budget")
    last = place.await_deployment(lambda seen: seen["spec"]["replicas"] == 1)
    assert last["spec"]["template"] == first["spec"]["template"]


def test_a_drain_of_nodes_takes_one_worker_at_a_time_and_every_one_that_does_not_consume(place: Place) -> None:
    place.pool(replicas=3)
    pods = sorted(place.await_pods(3), key=lambda pod: str(pod["metadata"]["name"]))
    place.make_ready(pods)
    eventually(
        lambda: (place.get(KIND) or {}).get("status", {}),
        lambda seen: seen.get("disruptionsAllowed") == 1,
        what="one worker to spare",
    )
    evict(place, pods[0])
    with pytest.raises(RefusedError) as caught:
        evict(place, pods[1])
    assert caught.value.status == 429
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    place.set_pod(pods[1], phase="Running", conditions=[ready])
    evict(place, pods[1])


def test_an_edited_or_deleted_budget_is_put_right_and_says_so(place: Place) -> None:
    place.pool(replicas=2)
    await_budget(place, maxUnavailable=1)
    place.await_reason("Ready", "False Progressing")
    place.api.merge(KIND, place.namespace, "emails", {"spec": {"maxUnavailable": 0}})
    await_budget(place, maxUnavailable=1)
    place.api.merge(KIND, place.namespace, "emails", {"spec": {"maxUnavailable": None, "minAvailable": 2}})
    budget = await_budget(place, maxUnavailable=1)
    assert "minAvailable" not in budget["spec"]
    place.api.delete(KIND, place.namespace, "emails")
    eventually(
        lambda: place.get(KIND),
        lambda seen: seen is not None and seen["metadata"]["uid"] != budget["metadata"]["uid"],
        what="another one",
    )
    told = {
        "PodDisruptionBudget emails: spec.maxUnavailable is 0, not 1; last changed by Python-urllib",
        "PodDisruptionBudget emails: spec.maxUnavailable is absent, not 1; last changed by Python-urllib",
        "PodDisruptionBudget emails: it does not exist",
    }
    eventually(
        lambda: sorted({e["message"] for e in place.api.list("Event", place.namespace) if e["reason"] == "Repaired"}),
        lambda seen: set(seen) == told,
        what="events of the repairs",
    )


def test_a_foreign_budget_is_never_taken_over(place: Place) -> None:
    spec = {"minAvailable": 5, "selector": {"matchLabels": {"app": "x"}}}
    theirs = place.api.create(KIND, place.namespace, {"metadata": {"name": "emails"}, "spec": spec})
    place.pool(replicas=2)
    message = place.await_reason("Stalled", "True NameConflict")["message"]
    assert message == (
        "a PodDisruptionBudget named emails exists and does not belong to Celeriac: rename the pool or remove the "
        "PodDisruptionBudget"
    )
    place.await_deployment()
    still = place.get(KIND)
    assert still is not None
    assert still["spec"] == theirs["spec"]
    place.pool(replicas=2, disruption={"maxUnavailable": "100%"})
    eventually(place.conditions, lambda seen: "Stalled" not in seen, what="no complaint")
    place.api.delete(KIND, place.namespace, "emails")
    place.pool(replicas=3)
    await_budget(place, maxUnavailable=1)


def test_a_deleted_pool_takes_its_budget_with_it(place: Place) -> None:
    place.pool(replicas=2)
    await_budget(place, maxUnavailable=1)
    place.api.delete("CeleryWorkerPool", place.namespace, "emails")
    # Kubernetes' garbage collector looks for new kinds every 30 s, and this cluster has only just got ours.
    eventually(lambda: place.get(KIND), lambda seen: seen is None, timeout=60, what="end of the budget")
