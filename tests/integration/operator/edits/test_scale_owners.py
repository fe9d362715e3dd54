"""Manifests without `replicas`, applied in every usual way, do not change the number that another program has set."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client as kubernetes
from tests.integration.operator.machine import Manifest, Place
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac_operator.cluster import client, transport
from celeriac_operator.exceptions import ApiError
from localcluster import build
from localcluster.controlplane import ControlPlane

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

QUEUE = "mail"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis in which there is work for three workers of every pool of these tests."""
    it = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no").start()
    with it.client as client:
        client.lpush(QUEUE, *map(str, range(15)))
    yield it
    it.kill()


Deploy = Callable[[Manifest], None]
"""Brings a manifest into the cluster, for the first time or again."""


@pytest.fixture
def deploy(request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path: Path) -> Deploy:
    kubectl = control_plane.kubectl

    def replace(manifest: Manifest) -> None:
        there = kubectl("get", "cwp", "-n", manifest["metadata"]["namespace"], "--output=name")
        kubectl("replace" if there else "create", "-f", "-", input=json.dumps(manifest))

    def upgrade(manifest: Manifest) -> None:
        build.ensure_programs(control_plane.cache, ["helm"])
        chart = tmp_path / "chart"
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text("{apiVersion: v2, name: shop, version: 1.0.0}")
        (chart / "templates" / "pool.yaml").write_text(json.dumps(manifest))
        homes = {f"HELM_{name}_HOME": str(tmp_path / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        namespace = f"--namespace={manifest['metadata']['namespace']}"
        subprocess.run(
            [control_plane.cache.program("helm"), "upgrade", "--install", "shop", str(chart), namespace],
            env={**os.environ, **homes, "KUBECONFIG": str(control_plane.kubeconfig)},
            check=True,
            capture_output=True,
        )

    ways: dict[str, Deploy] = {
        "kubectl apply": lambda manifest: kubectl("apply", "-f", "-", input=json.dumps(manifest)) and None,
        "kubectl apply --server-side": lambda manifest: (
            kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest)) and None
        ),
        "kubectl replace": replace,
        "helm upgrade": upgrade,
    }
    return ways[request.param]


def image_of(place: Place) -> str:
    deployment = place.get("Deployment") or {"spec": {"template": {"spec": {"containers": [{"image": ""}]}}}}
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def scaling_of(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = ((place.get("CeleryWorkerPool") or {}).get("status") or {}).get("scaling") or {}
    return found


def await_three(place: Place) -> None:
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == 3)


@pytest.mark.parametrize(
    ("deploy", "decisions"),
    [
        pytest.param("kubectl apply", 1, id="kubectl apply"),
        pytest.param("kubectl apply --server-side", 1, id="kubectl apply --server-side"),
        # It says what everything is to be, so for a moment it is the default, 1.
        pytest.param("kubectl replace", 2, id="kubectl replace, which is put right at once"),
        pytest.param("helm upgrade", 1, id="helm upgrade"),
    ],
    indirect=["deploy"],
)
def test_autoscaling_keeps_its_number(place: Place, server: RedisServer, deploy: Deploy, decisions: int) -> None:
    manifest = place.pool_manifest(
        queues=[QUEUE],
        broker={"url": server.url},
        autoscaling={"maxReplicas": 5, "target": {"backlogPerReplica": 5}},
    )
    deploy(manifest)
    await_three(place)
    eventually(lambda: scaling_of(place), what="the first decision")
    deploy({**manifest, "spec": {**manifest["spec"], "image": "shop:2"}})
    eventually(lambda: image_of(place), lambda image: image == "shop:2", what="the new image")
    eventually(
        lambda: len(scaling_of(place)["decisions"]), lambda count: count == decisions, what=f"{decisions} decisions"
    )
    await_three(place)


@pytest.mark.parametrize("options", [(), ("--server-side",)], ids=["kubectl apply", "kubectl apply --server-side"])
@pytest.mark.parametrize("is_scaled", [True, False], ids=["scaled by hand before", "as it was applied"])
def test_taking_replicas_out_of_an_applied_manifest_leaves_the_number(
    place: Place, control_plane: ControlPlane, options: tuple[str, ...], is_scaled: bool
) -> None:
    manifest = place.pool_manifest(replicas=2 if is_scaled else 5)
    control_plane.kubectl("apply", *options, "-f", "-", input=json.dumps(manifest))
    if is_scaled:
        place.await_deployment(lambda seen: seen["spec"]["replicas"] == 2)
        control_plane.kubectl("scale", "-n", place.namespace, "cwp/emails", "--replicas=5")
    scaled = place.await_deployment(lambda seen: seen["spec"]["replicas"] == 5)
    del manifest["spec"]["replicas"]
    manifest["spec"]["image"] = "shop:2"
    control_plane.kubectl("apply", *options, "-f", "-", input=json.dumps(manifest))
    changed = place.await_deployment(
        lambda seen: seen["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2"
    )
    assert changed["spec"]["replicas"] == 5
    eventually(
        lambda: (place.get("CeleryWorkerPool") or {})["spec"]["replicas"], lambda number: number == 5, what="5 replicas"
    )
    # One write of the Deployment since it was scaled: the image. It did not ask for fewer workers.
    assert changed["metadata"]["generation"] == scaled["metadata"]["generation"] + 1
    control_plane.kubectl("scale", "-n", place.namespace, "cwp/emails", "--replicas=1")
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == 1)


@pytest.mark.parametrize(
    ("verb", "options"),
    [pytest.param("replace", (), id="kubectl replace"), pytest.param("patch", ("--type=json",), id="kubectl patch")],
)
def test_who_removes_the_number_by_hand_gets_the_default(
    place: Place, control_plane: ControlPlane, verb: str, options: tuple[str, ...]
) -> None:
    manifest = place.pool_manifest(replicas=5)
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest))
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == 5)
    if verb == "replace":
        del manifest["spec"]["replicas"]
        control_plane.kubectl("replace", "-f", "-", input=json.dumps(manifest))
    else:
        removal = '--patch=[{"op": "remove", "path": "/spec/replicas"}]'
        control_plane.kubectl("patch", "-n", place.namespace, "cwp/emails", *options, removal)
    place.await_deployment(lambda seen: seen["spec"]["replicas"] == 1)


async def test_a_number_that_was_decided_before_somebody_scaled_by_hand_is_not_written(
    place: Place, control_plane: ControlPlane
) -> None:
    decided_on = place.pool(replicas=2)
    control_plane.kubectl("scale", "-n", place.namespace, "cwp/emails", "--replicas=7")
    configuration = kubernetes.Configuration(host=control_plane.server)
    configuration.ssl_ca_cert = str(control_plane.ca_file)
    configuration.api_key["BearerToken"] = f"Bearer {control_plane.token}"
    transport.prepare(configuration)
    sender = transport.Transport(kubernetes.ApiClient(configuration), lambda **_: None)
    try:
        with pytest.raises(ApiError) as refusal:
            await client.Cluster(sender).scale(decided_on["metadata"], 3)
        assert refusal.value.status == 409
    finally:
        await sender.close()
    assert (place.get("CeleryWorkerPool") or {})["spec"]["replicas"] == 7


def test_a_horizontal_pod_autoscaler_keeps_its_number_too(place: Place, control_plane: ControlPlane) -> None:
    place.pool()
    place.await_deployment()
    # Without metrics it holds the bounds at least, which is enough of a number here.
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "emails", "namespace": place.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "celeriac.dev/v1alpha1", "kind": "CeleryWorkerPool", "name": "emails"},
            "minReplicas": 3,
            "maxReplicas": 4,
        },
    }
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(autoscaler))
    await_three(place)
    place.pool(image="shop:2")
    eventually(lambda: image_of(place), lambda image: image == "shop:2", what="the new image")
    await_three(place)
    assert (place.get("CeleryWorkerPool") or {})["spec"]["replicas"] == 3
