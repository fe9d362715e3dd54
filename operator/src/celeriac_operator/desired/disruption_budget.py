"""(pure) The PodDisruptionBudget: how many workers a drain of nodes may take away at once.

It holds back evictions only: a rollout, a scale-down or a suspension never waits for it. A pool that says nothing gets
one at a time where it has more than one worker; that budget never blocks a drain for good, at any number of workers.
Whether there is one depends on the spec alone, so suspending and resuming does not remove and make it.
"""

from __future__ import annotations

from typing import Any

from celeriac_operator import labels, names
from celeriac_operator.desired import metadata
from celeriac_operator.resource import CeleryWorkerPool, Disruption

DEFAULT = Disruption(max_unavailable=1)

NO_BUDGET = (Disruption(max_unavailable="100%"), Disruption(min_available=0), Disruption(min_available="0%"))
"""What allows every eviction needs no object. It also makes room for a budget of somebody's own: Kubernetes evicts no
pod that two of them cover."""


def build(pool: CeleryWorkerPool) -> dict[str, Any] | None:
    """The manifest; None: the pool needs none."""
    scaling = pool.spec.autoscaling
    # With autoscaling by what it may grow to: no budget comes and goes with the number of the moment.
    most = scaling.max_replicas if scaling else pool.spec.replicas
    asked = pool.spec.disruption or (DEFAULT if most > 1 else None)
    if asked is None or asked in NO_BUDGET:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata.build(pool, names.disruption_budget(pool)),
        "spec": {
            **asked.model_dump(by_alias=True, exclude_none=True),
            "selector": {"matchLabels": labels.selector(pool)},
            # A worker without its broker is not ready, and is no reason to keep a node.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
