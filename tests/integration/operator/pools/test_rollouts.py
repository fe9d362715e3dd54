"""What replaces workers and what does not, with Kubernetes' own Deployment controller. Only the kubelet is played."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.operator.machine import Manifest, Place
from tests.waiting import eventually

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]  # many waits, on a busy machine too


def settled(place: Place, **spec: Any) -> list[Manifest]:
    """A pool whose workers are all ready; returns its pods."""
    place.pool(**spec)
    pods = place.await_pods(spec.get("replicas", 1))
    place.make_ready(pods)
    place.await_reason("Ready", "True Ready")
    return pods


def uids(pods: list[Manifest]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def replica_sets(place: Place) -> list[str]:
    return [each["metadata"]["name"] for each in place.api.list("ReplicaSet", place.namespace)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"metadata": {"labels": {"team": "mail"}}}, id="a label of the pool"),
        pytest.param({"metadata": {"annotations": {"note": "x"}}}, id="an annotation of the pool"),
        pytest.param({"metadata": {"labels": {"celeriac.dev/pool": "other"}}}, id="a label that workers have, too"),
        pytest.param({"spec": {"replicas": 4}}, id="more workers"),
        pytest.param({"spec": {"rollout": {"maxSurge": 2, "maxUnavailable": 1}}}, id="how changes roll out"),
        pytest.param({"spec": {"disruption": {"minAvailable": 1}}}, id="how many workers a drain takes"),
    ],
)
def test_no_worker_is_replaced_for(place: Place, change: dict[str, Any]) -> None:
    before = settled(place, replicas=2)
    generation = (place.get("CeleryWorkerPool") or {})["metadata"]["generation"]
    changed = place.api.merge("CeleryWorkerPool", place.namespace, "emails", change)
    wanted = changed["spec"]["replicas"]
    if changed["metadata"]["generation"] == generation:
        # Nothing follows from it. A change after it that does shows that it was seen.
        wanted = 3
        place.api.merge("CeleryWorkerPool", place.namespace, "emails", {"spec": {"replicas": 3}})
    generation = (place.get("CeleryWorkerPool") or {})["metadata"]["generation"]
    eventually(
        lambda: (place.get("CeleryWorkerPool") or {})["status"],
        lambda seen: seen["observedGeneration"] == generation and seen.get("replicas") == wanted,
        what="status of the change",
    )
    assert uids(before) <= uids(place.pods())
    assert len(replica_sets(place)) == 1


def test_no_worker_is_replaced_for_a_status_that_somebody_writes(place: Place) -> None:
    before = settled(place, replicas=2)
    status = {"status": {"replicas": 9, "library": "evil:1", "conditions": []}}
    place.api.merge("CeleryWorkerPool", place.namespace, "emails", status, "status")
    place.await_reason("Ready", "True Ready")
    assert (place.get("CeleryWorkerPool") or {})["status"]["replicas"] == 2
    assert uids(place.pods()) == uids(before)
    assert len(replica_sets(place)) == 1


def test_a_smaller_number_of_workers_keeps_the_others(place: Place) -> None:
    before = settled(place, replicas=3)
    place.pool(replicas=2)
    eventually(lambda: sorted(uids(place.pods())), lambda seen: len(seen) == 2, what="two workers")
    assert uids(place.pods()) < uids(before)
    assert len(replica_sets(place)) == 1


def test_a_broken_new_image_never_takes_the_old_workers_away(place: Place) -> None:
    old = settled(place, replicas=3)
    place.pool(replicas=3, image="shop:broken")
    pods = eventually(place.pods, lambda seen: len(seen) > 3, what="a worker of the new image")
    new = [pod for pod in pods if pod["metadata"]["uid"] not in uids(old)]
    for pod in new:
        place.set_container(pod, state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    message = place.await_reason("Stalled", "True ImagePullFailed")["message"]
    assert message.endswith("not found; workers of the previous template keep running")
    assert (place.get("CeleryWorkerPool") or {})["status"]["ready"] == "3/3"
    assert uids(old) <= uids(place.pods())
    # Another attempt that is broken as well takes none of them either.
    place.pool(replicas=3, image="shop:worse")
    eventually(lambda: replica_sets(place), lambda seen: len(seen) == 3, what="its template")
    place.await_reason("Ready", "False Progressing")
    assert uids(old) <= uids(place.pods())


def test_a_good_new_image_replaces_all_workers_one_after_the_other(place: Place) -> None:
    old = settled(place, replicas=2)
    place.pool(replicas=2, image="shop:2")

    def roll() -> list[Manifest]:
        """Make what has come ready, and see how many there are."""
        there = [pod for pod in place.pods() if "deletionTimestamp" not in pod["metadata"]]
        assert len(there) >= 2, "fewer workers than asked for"
        place.make_ready([pod for pod in there if not pod["status"].get("containerStatuses")])
        return there

    eventually(roll, lambda seen: len(seen) == 2 and uids(seen).isdisjoint(uids(old)), what="new workers alone")
    place.await_reason("Ready", "True Ready")
