"""Another program keeps changing what belongs to a pool: the operator slows down and says so, and it ends."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.operator.machine import Manifest, Place, RefusedError, writes
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

FIGHT_SECONDS = 12
MOST_WRITES = 6
"""Five corrections before the first pause of 10 s, and one after it."""

PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/emails",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/emails",
    "Secret": "/api/v1/namespaces/{}/secrets/emails-sentry",
}
MIRROR = base64.b64encode(b"https://key@mirror.example/7").decode()


def name_of(kind: str) -> str:
    return PATHS[kind].rpartition("/")[2]


def content(there: Manifest) -> Manifest:
    found: Manifest = there["data"] if there["kind"] == "Secret" else there["spec"]
    return found


@contextlib.contextmanager
def opponent(place: Place, kind: str, is_content: Callable[[Manifest], bool], patch: Manifest | None) -> Iterator[None]:
    """A program that changes the object whenever it is not as it wants it; without a patch it deletes it."""
    stop = threading.Event()
    path = f"{PATHS[kind].format(place.namespace)}?fieldManager=opponent"

    def fight() -> None:
        while not stop.wait(0.02):
            there = place.get(kind, name_of(kind))
            if there is None or (patch is not None and is_content(there)):
                continue
            with contextlib.suppress(RefusedError):
                if patch is None:
                    place.api.delete(kind, place.namespace, name_of(kind))
                else:
                    place.api.request("PATCH", path, patch, "application/strategic-merge-patch+json")

    thread = threading.Thread(target=fight)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def in_worker(**fields: Any) -> Manifest:
    return {"spec": {"template": {"spec": {"containers": [{"name": "worker", **fields}]}}}}


def worker(there: Manifest) -> Manifest:
    found: Manifest = there["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize(
    ("kind", "is_content", "patch"),
    [
        pytest.param(
            "Deployment", lambda seen: worker(seen)["image"] == "mirror:1", in_worker(image="mirror:1"), id="an image"
        ),
        pytest.param(
            "Deployment", lambda seen: seen["spec"]["replicas"] == 5, {"spec": {"replicas": 5}}, id="replicas"
        ),
        pytest.param("Deployment", lambda seen: "args" in worker(seen), in_worker(args=["x"]), id="a field of its own"),
        pytest.param(
            "PodDisruptionBudget",
            lambda seen: seen["spec"]["maxUnavailable"] == 2,
            {"spec": {"maxUnavailable": 2}},
            id="a budget",
        ),
        pytest.param("PodDisruptionBudget", bool, None, id="a deletion"),
        pytest.param("Secret", lambda seen: seen["data"]["dsn"] == MIRROR, {"data": {"dsn": MIRROR}}, id="a Secret"),
        pytest.param("Secret", bool, None, id="a deletion of a Secret"),
    ],
)
def test_a_program_that_fights_gets_growing_pauses_and_a_condition(
    place: Place,
    control_plane: ControlPlane,
    kind: str,
    is_content: Callable[[Manifest], bool],
    patch: Manifest | None,
) -> None:
    place.pool(replicas=2, sentry={"dsn": "https://key@sentry.example/1"})
    place.await_deployment()
    before = eventually(lambda: place.get(kind, name_of(kind)), what=kind)
    place.make_ready(place.await_pods(2))
    place.await_reason("Ready", "True Ready")
    plural = PATHS[kind].rpartition("/")[0].rpartition("/")[2]

    def applies() -> int:
        mine = [line for line in writes(control_plane) if f"/{place.namespace}/{plural}/{name_of(kind)}" in line]
        return sum("force=" in line for line in mine)

    first = applies()
    began = time.monotonic()
    with opponent(place, kind, is_content, patch):
        message = place.await_reason("Stalled", "True Contested")["message"]
        eventually(lambda: time.monotonic() - began, lambda passed: passed > FIGHT_SECONDS, what="a while of fighting")
    assert kind in message
    assert applies() - first <= MOST_WRITES
    # When the opponent is gone, the next correction holds.
    eventually(
        lambda: place.get(kind, name_of(kind)),
        lambda seen: seen is not None and content(seen) == content(before),
        what="the end",
    )
