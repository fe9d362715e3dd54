"""(pure) Which Deployment runs a pool's workers?"""

from __future__ import annotations

from typing import Any

from celeriac_operator import labels, names
from celeriac_operator.desired import metadata, pod_template
from celeriac_operator.desired.pod_template import Choices
from celeriac_operator.resource import CeleryWorkerPool

REVISION_HISTORY = 3
"""Old ReplicaSets to keep. They show the previous images; few, because there may be thousands of pools."""


def replicas(pool: CeleryWorkerPool) -> int:
    """The number of workers that the Deployment gets. No other module reads spec.replicas to set it."""
    return 0 if pool.spec.suspend else pool.spec.replicas


def build(pool: CeleryWorkerPool, choices: Choices) -> dict[str, Any]:
    """Build the Deployment.

    Raises:
        TemplateError: the pool's template patch cannot be merged.
    """
    shared = metadata.build(pool, names.deployment(pool))
    if pool.spec.inject == "Always":
        shared["annotations"] = {labels.LIBRARY_IMAGE: choices.library_image}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": shared,
        "spec": {
            "replicas": replicas(pool),
            "selector": {"matchLabels": labels.selector(pool)},
            "revisionHistoryLimit": REVISION_HISTORY,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": pool.spec.rollout.max_surge,
                    "maxUnavailable": pool.spec.rollout.max_unavailable,
                },
            },
            "template": pod_template.build(pool, choices),
        },
    }
