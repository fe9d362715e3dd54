"""A pool and its objects come back from a backup, or after `kubectl delete --cascade=orphan`: workers are kept."""

from __future__ import annotations

import copy
import json

import pytest
from tests.integration.operator.machine import Manifest, Place
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

KINDS = ("Deployment", "PodDisruptionBudget")


def backed_up(place: Place) -> dict[str, Manifest]:
    """The pool and its objects, as a backup keeps them: without what the server has filled in, and without status."""
    kept = {}
    for kind in ("CeleryWorkerPool", *KINDS):
        found = copy.deepcopy(eventually(lambda kind=kind: place.get(kind), what=kind))
        for name in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            found["metadata"].pop(name, None)
        found.pop("status", None)
        kept[kind] = found
    return kept


def restore(place: Place, manifest: Manifest) -> Manifest:
    kind: str = manifest["kind"]
    return place.api.create(kind, place.namespace, manifest)


def owners(place: Place, kind: str) -> list[str]:
    found = place.get(kind) or {"metadata": {}}
    return [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]


def delete(place: Place, control_plane: ControlPlane, *options: str) -> None:
    control_plane.kubectl("delete", "-n", place.namespace, "cwp/emails", *options)


@pytest.fixture
def kept(place: Place) -> dict[str, Manifest]:
    """What a backup of a pool with two workers has."""
    place.pool(replicas=2)
    place.await_deployment()
    return backed_up(place)


def await_owner(place: Place, pool: Manifest, kind: str) -> None:
    eventually(lambda: owners(place, kind), lambda found: found == [pool["metadata"]["uid"]], what=f"owner of {kind}")


def test_what_velero_restores_is_adopted_and_no_worker_is_replaced(
    place: Place, control_plane: ControlPlane, kept: dict[str, Manifest]
) -> None:
    delete(place, control_plane)
    for kind in KINDS:
        eventually(lambda kind=kind: place.get(kind), lambda found: found is None, what=f"the end of {kind}")
    restored = {}
    for kind in KINDS:
        kept[kind]["metadata"].pop("ownerReferences")
        restored[kind] = restore(place, kept[kind])
    pool = restore(place, kept["CeleryWorkerPool"])
    for kind in KINDS:
        await_owner(place, pool, kind)
        now = place.get(kind) or {}
        assert now["metadata"]["uid"] == restored[kind]["metadata"]["uid"]
    template = (place.get("Deployment") or {})["spec"]["template"]
    assert template == restored["Deployment"]["spec"]["template"]


def test_what_was_left_behind_by_an_orphaning_delete_is_adopted(
    place: Place, control_plane: ControlPlane, kept: dict[str, Manifest]
) -> None:
    before = {kind: place.get(kind) or {} for kind in KINDS}
    delete(place, control_plane, "--cascade=orphan")
    for kind in KINDS:
        eventually(lambda kind=kind: owners(place, kind), lambda found: found == [], what=f"{kind} without an owner")
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(kept["CeleryWorkerPool"]))
    pool = place.get("CeleryWorkerPool") or {}
    for kind in KINDS:
        await_owner(place, pool, kind)
        assert (place.get(kind) or {})["metadata"]["uid"] == before[kind]["metadata"]["uid"]
    assert (place.get("Deployment") or {})["spec"] == before["Deployment"]["spec"]


def test_what_is_restored_with_its_former_owner_is_collected_and_made_again(
    place: Place, control_plane: ControlPlane, kept: dict[str, Manifest]
) -> None:
    delete(place, control_plane)
    eventually(lambda: place.get("Deployment"), lambda found: found is None, what="the end of the Deployment")
    restored = restore(place, kept["Deployment"])
    pool = restore(place, kept["CeleryWorkerPool"])
    eventually(
        lambda: place.get("Deployment"),
        lambda found: found is not None and found["metadata"]["uid"] != restored["metadata"]["uid"],
        what="another Deployment",
    )
    await_owner(place, pool, "Deployment")
