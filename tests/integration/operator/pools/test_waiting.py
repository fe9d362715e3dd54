"""What a GitOps tool that waits for a pool gets: success for a pool at zero, and time for what comes later."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operator.machine import Operator, Place, running_operator
from tests.waiting import eventually

from localcluster import build
from localcluster.controlplane import ControlPlane

pytestmark = pytest.mark.usefixtures("operator")

GRACE_SECONDS = 6
BROKER = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}


@pytest.fixture(scope="module")
def operator(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    log = tmp_path_factory.mktemp("log")
    with running_operator(kubeconfig, log, CELERIAC_STALLED_AFTER_SECONDS=str(GRACE_SECONDS)) as process:
        yield process


def test_a_secret_that_comes_within_the_grace_period_never_stalls_the_pool(place: Place) -> None:
    place.pool(broker=BROKER)
    place.await_reason("Reconciling", "True SecretNotFound")
    assert "Stalled" not in place.reasons()
    place.secret("redis", url="redis://redis/0")
    place.await_deployment()
    place.make_ready(place.await_pods(1))
    place.await_reason("Ready", "True Ready")
    assert "failingSince" not in (place.get("CeleryWorkerPool") or {})["status"]
    assert [each for each in place.api.list("Event", place.namespace) if each["reason"] == "SecretNotFound"] == []


def test_a_secret_that_does_not_come_stalls_the_pool_after_the_grace_period(place: Place) -> None:
    place.pool(broker=BROKER)
    place.await_reason("Reconciling", "True SecretNotFound")
    began = time.monotonic()
    place.await_reason("Stalled", "True SecretNotFound")
    assert time.monotonic() - began >= GRACE_SECONDS - 2  # failingSince has whole seconds
    assert "Reconciling" not in place.reasons()


@pytest.mark.parametrize("spec", [{"replicas": 0}, {"replicas": 2, "suspend": True}], ids=["no replicas", "suspended"])
def test_helm_waits_for_a_pool_at_zero_and_succeeds(
    place: Place, control_plane: ControlPlane, tmp_path: Path, spec: dict[str, Any]
) -> None:
    build.ensure_programs(control_plane.cache, ["helm"])
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: shop, version: 1.0.0}")
    (chart / "templates" / "pool.yaml").write_text(json.dumps(place.pool_manifest(**spec)))
    homes = {f"HELM_{name}_HOME": str(tmp_path / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    program = control_plane.cache.program("helm")
    command = [program, "upgrade", "--install", "shop", str(chart), "--wait=watcher", "--timeout=60s"]
    done = subprocess.run(
        [*command, f"--namespace={place.namespace}"],
        env={**os.environ, **homes, "KUBECONFIG": str(control_plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    eventually(place.reasons, lambda seen: seen["Ready"].startswith("True"), what="Ready")
