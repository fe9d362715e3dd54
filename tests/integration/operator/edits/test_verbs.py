"""Everything that kubectl can do to a pool and to its Deployment, one after the other, as a person would."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.operator.machine import Manifest, Operator, Place
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(240)]

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(place: Place, control_plane: ControlPlane) -> Kubectl:
    """kubectl in the test's namespace."""

    def run(*arguments: str, **options: Any) -> str:
        return control_plane.kubectl(*arguments, "-n", place.namespace, **options)

    return run


def image(there: Manifest) -> str:
    found: str = there["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def await_image(place: Place, name: str) -> Manifest:
    return place.await_deployment(lambda seen: image(seen) == name)


def edit(control_plane: ControlPlane, place: Place, command: str) -> None:
    """`kubectl edit` with an editor that changes the file at once."""
    environment = {**os.environ, **control_plane.kubectl.env, "KUBE_EDITOR": command}
    arguments = ["edit", "-n", place.namespace, "cwp/emails"]
    subprocess.run([control_plane.kubectl.program, *arguments], env=environment, check=True, capture_output=True)


def test_every_verb_on_a_pool(place: Place, control_plane: ControlPlane, kubectl: Kubectl, operator: Operator) -> None:
    def manifest(number: int, **spec: Any) -> str:
        return json.dumps(place.pool_manifest(**{"image": f"shop:{number}", **spec}))

    kubectl("create", "-f", "-", input=manifest(1))
    await_image(place, "shop:1")
    kubectl("apply", "-f", "-", input=manifest(2))
    await_image(place, "shop:2")
    kubectl("apply", "--server-side", "-f", "-", input=manifest(3))
    await_image(place, "shop:3")
    kubectl("replace", "-f", "-", input=manifest(4))
    before = await_image(place, "shop:4")
    # It is deleted and created: the workers of the earlier pool go, and the new pool gets its own.
    kubectl("replace", "--force", "-f", "-", input=manifest(5))
    after = await_image(place, "shop:5")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    kubectl("patch", "cwp/emails", "--type=merge", '--patch={"spec": {"image": "shop:6"}}')
    await_image(place, "shop:6")
    kubectl(
        "patch", "cwp/emails", "--type=json", '--patch=[{"op": "replace", "path": "/spec/image", "value": "shop:7"}]'
    )
    await_image(place, "shop:7")
    edit(control_plane, place, "sed -i s/shop:7/shop:8/")
    edited = await_image(place, "shop:8")
    kubectl("label", "cwp/emails", "team=mail")
    kubectl("annotate", "cwp/emails", "example.com/note=x")
    kubectl("scale", "cwp/emails", "--replicas=3")
    scaled = place.await_deployment(lambda seen: seen["spec"]["replicas"] == 3)
    # A label and an annotation of the pool change nothing: this is the first write since the edit.
    assert scaled["metadata"]["generation"] == edited["metadata"]["generation"] + 1
    assert scaled["spec"]["template"] == edited["spec"]["template"]
    kubectl("delete", "cwp/emails")
    eventually(lambda: place.get("Deployment"), lambda seen: seen is None, what="the end of the Deployment")
    operator.idle()
    assert "Traceback" not in operator.text()


def is_as(asked: Manifest) -> Callable[[Manifest], bool]:
    """Whether a Deployment is as it was, but for what `rollout restart` adds to the pods' annotations."""

    def accept(seen: Manifest) -> bool:
        spec = json.loads(json.dumps(seen["spec"]))
        spec["template"]["metadata"]["annotations"].pop("kubectl.kubernetes.io/restartedAt", None)
        return bool(spec == asked["spec"])

    return accept


# An undo brings the former revision's annotations back too, so others are added after it. More than five corrections of
# one object within two minutes would be a dispute.
EDITS = {
    "emails": (
        ("rollout", "undo", "--to-revision=1"),
        ("label", "team=mail"),
        ("annotate", "example.com/note=x"),
        ("scale", "--replicas=4"),
        ("set", "image", "worker=evil:1"),
        ("set", "env", "A=b"),
    ),
    "reports": (
        ("set", "resources", "--limits=cpu=1"),
        ("patch", '--patch={"spec": {"minReadySeconds": 9}}'),
        ("patch", "--type=merge", '--patch={"spec": {"progressDeadlineSeconds": 9}}'),
        ("patch", "--type=json", '--patch=[{"op": "remove", "path": "/spec/strategy"}]'),
    ),
}
LEFT = ("label", "annotate")


@pytest.mark.parametrize("name", EDITS)
def test_every_verb_that_changes_its_deployment_is_undone_or_left(place: Place, kubectl: Kubectl, name: str) -> None:
    place.pool(name)
    place.await_deployment(name=name)
    place.pool(name, image="shop:2")
    asked = place.await_deployment(lambda seen: image(seen) == "shop:2", name=name)
    for verb in EDITS[name]:
        words = 2 if verb[0] in {"rollout", "set"} else 1
        before = (place.get("Deployment", name) or {})["metadata"]["generation"]
        kubectl(*verb[:words], f"deployment/{name}", *verb[words:])
        if verb[0] in LEFT:
            continue
        place.await_deployment(
            lambda seen, before=before: seen["metadata"]["generation"] > before and is_as(asked)(seen), name=name
        )
    left = (place.get("Deployment", name) or {})["metadata"]
    if name == "emails":
        assert (left["labels"]["team"], left["annotations"]["example.com/note"]) == ("mail", "x")


def test_a_rollout_of_its_deployment_is_restarted_paused_and_resumed(place: Place, kubectl: Kubectl) -> None:
    place.pool()
    asked = await_image(place, "shop:1")
    kubectl("rollout", "restart", "deployment/emails")
    restarted = place.await_deployment(lambda seen: "restartedAt" in json.dumps(seen["spec"]["template"]["metadata"]))
    assert is_as(asked)(restarted)
    kubectl("rollout", "pause", "deployment/emails")
    place.await_deployment(lambda seen: seen["spec"].get("paused") is True)
    place.pool(image="shop:3")
    place.await_reason("Stalled", "True RolloutPaused")
    kubectl("rollout", "resume", "deployment/emails")
    resumed = await_image(place, "shop:3")
    kubectl("delete", "deployment/emails")
    place.await_deployment(lambda seen: seen["metadata"]["uid"] != resumed["metadata"]["uid"])
