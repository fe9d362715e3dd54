"""(pure) How many workers may be evicted at once while nodes are drained?

A PodDisruptionBudget limits evictions only: a rollout, a scale-down or a suspension never waits for it. By default a
pool with more than one worker allows one eviction at a time, which never blocks a node drain for ever. Whether a pool
has a budget depends on its spec alone, so suspending and resuming the pool neither deletes nor creates it.
"""

from __future__ import annotations

from typing import Any

from celeriac_operator import labels, names
from celeriac_operator.desired import metadata
from celeriac_operator.resource import CeleryWorkerPool, Disruption

DEFAULT = Disruption(max_unavailable=1)

NO_BUDGET = (Disruption(max_unavailable="100%"), Disruption(min_available=0), Disruption(min_available="0%"))
"""A budget that allows every eviction is not created. That leaves room for a budget of the user's own: Kubernetes
evicts no pod that two budgets cover."""


def build(pool: CeleryWorkerPool) -> dict[str, Any] | None:
    """Build the budget; None: the pool needs none."""
    scaling = pool.spec.autoscaling
    # With autoscaling, maxReplicas decides, so that the budget does not come and go with the current number.
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
            # A worker that has lost its broker is not ready, and must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
