"""The peer: the same resource and the same objects, by an operator in the usual style of kopf.

Handlers for creation, change and restart apply everything that should exist; a timer looks at the Deployment and puts
its figures into the status. Fair: it builds the objects with Celeriac's own code, writes by server-side apply, writes a
status only where it differs, and does not post kopf's events. It does not repair, queue, cache or elect.

    kopf run --standalone -n NAMESPACE plain_kopf_operator.py
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import kopf
import kubernetes
from kubernetes.dynamic import DynamicClient

from celeriac_operator import labels
from celeriac_operator.desired import build
from celeriac_operator.resource import CeleryWorkerPool

POOLS = ("celeriac.dev", "v1alpha1", "celeryworkerpools")
TIMER_SECONDS = 10
CHOICES = build.Choices(library_image="celeriac-worker:1")

kubernetes.config.load_kube_config(os.environ["KUBECONFIG"])
client = DynamicClient(kubernetes.client.ApiClient())


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.execution.max_workers = 20


@kopf.on.create(*POOLS)
@kopf.on.update(*POOLS, field="spec")
@kopf.on.resume(*POOLS)
def apply(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    """Everything that should exist."""
    pool = CeleryWorkerPool.parse(_plain(body))
    for manifest in build.build(pool, CHOICES):
        resource = client.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        resource.server_side_apply(body=manifest, field_manager="plain", force_conflicts=True)
    _report(body, patch, ready=0)


@kopf.timer(*POOLS, interval=TIMER_SECONDS, initial_delay=1, idle=0)
def follow(body: kopf.Body, name: str, namespace: str, patch: kopf.Patch, **_: Any) -> None:
    """The Deployment's figures."""
    deployments = client.resources.get(api_version="apps/v1", kind="Deployment")
    try:
        deployment = deployments.get(name=name, namespace=namespace).to_dict()
    except kubernetes.dynamic.exceptions.NotFoundError:
        return
    _report(body, patch, ready=(deployment.get("status") or {}).get("readyReplicas") or 0)


def _report(body: Mapping[str, Any], patch: kopf.Patch, *, ready: int) -> None:
    wanted = body["spec"]["replicas"]
    is_ready = ready == wanted
    condition = {
        "type": "Ready",
        "status": "True" if is_ready else "False",
        "reason": "Ready" if is_ready else "Progressing",
        "message": f"{ready} of {wanted} workers are ready",
        "observedGeneration": body["metadata"]["generation"],
    }
    before = body.get("status") or {}
    known = [{key: each.get(key) for key in condition} for each in before.get("conditions", [])]
    if known == [condition] and before.get("readyReplicas") == ready:
        return
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch.status.update(
        readyReplicas=ready,
        desiredReplicas=wanted,
        ready=f"{ready}/{wanted}",
        observedGeneration=body["metadata"]["generation"],
        selector=labels.as_selector({labels.NAME: labels.WORKER_NAME, labels.POOL: body["metadata"]["name"]}),
        conditions=[{**condition, "lastTransitionTime": now}],
    )


def _plain(value: Any) -> Any:
    """kopf hands out read-only views."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
