"""A later release may serve and store another version of the resource: nothing relies on its being the only one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import yaml
from tests.integration.operator.machine import CRD, Api, Place, pools_path, running_operator
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

LATER = "v1beta1"


def with_later_version() -> dict[str, Any]:
    """This release's definition with a second version, in which objects are stored from now on."""
    found: dict[str, Any] = yaml.safe_load(CRD.read_text())
    (present,) = found["spec"]["versions"]
    later = {**copy.deepcopy(present), "name": LATER}
    found["spec"]["versions"] = [{**present, "storage": False}, later]
    return found


def test_pools_of_another_stored_version_are_served_and_none_is_restarted_for_it(tmp_path: Path) -> None:
    with ControlPlane(controllers=True) as control_plane:
        api = Api(control_plane)
        place = Place(api=api, namespace="default")
        control_plane.kubectl("apply", "--server-side", "-f", str(CRD))
        eventually(api.serves_pools, what="definition")
        with running_operator(control_plane.kubeconfig, tmp_path) as operator:
            for name in ("kept", "changed"):
                place.pool(name)
                place.await_reason("Ready", "False Progressing", name)
            before = {name: place.await_deployment(name=name) for name in ("kept", "changed")}
            control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(with_later_version()))
            eventually(lambda: api.serves_pools(LATER), what="later version")
            new = {**place.pool_manifest("new"), "apiVersion": f"celeriac.dev/{LATER}"}
            api.request("POST", pools_path("default", LATER), new)
            place.await_deployment(name="new")
            place.await_reason("Ready", "False Progressing", "new")
            image = {"spec": {"image": "shop:2"}}
            api.request("PATCH", f"{pools_path('default', LATER)}/changed", image, "application/merge-patch+json")
            after = place.await_deployment(
                lambda seen: seen["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2", "changed"
            )
            operator.idle()
        assert after["metadata"]["uid"] == before["changed"]["metadata"]["uid"]
        kept = place.await_deployment(name="kept")
        assert (kept["metadata"]["uid"], kept["spec"]) == (before["kept"]["metadata"]["uid"], before["kept"]["spec"])
