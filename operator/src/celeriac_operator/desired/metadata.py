"""(pure) Which metadata do all owned objects share?"""

from __future__ import annotations

from typing import Any

from celeriac_operator import labels
from celeriac_operator.resource import GROUP, KIND, VERSION, CeleryWorkerPool


def build(pool: CeleryWorkerPool, name: str) -> dict[str, Any]:
    """Build name, labels, and the owner reference, with which Kubernetes deletes the object together with the pool."""
    return {
        "name": name,
        "namespace": pool.metadata.namespace,
        "labels": labels.owned(pool),
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": pool.metadata.name,
                "uid": pool.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
