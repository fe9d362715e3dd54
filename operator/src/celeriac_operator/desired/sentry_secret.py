"""(pure) The Secret that holds a DSN which no Secret of the pool's namespace holds: the inline one, or the operator's.

So workers read every DSN in the same way, from a mounted file, and a pod can mount no Secret of another namespace.
"""

from __future__ import annotations

import base64
from typing import Any

from celeriac_operator import names
from celeriac_operator.desired import metadata
from celeriac_operator.resource import CeleryWorkerPool


def dsn_of(pool: CeleryWorkerPool, default: str) -> str:
    """What belongs into the Secret; empty: the pool needs none. `default` is the operator's DSN for all pools.

    Only a pool with a sentry section gets the default: without one an application's own DSN must go on to hold.
    """
    sentry = pool.spec.sentry
    if sentry is None or sentry.dsn_from is not None:
        return ""
    return sentry.dsn or default


def build(pool: CeleryWorkerPool, dsn: str) -> dict[str, Any]:
    """The Secret's manifest."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata.build(pool, names.sentry_secret(pool)),
        "type": "Opaque",
        # Not stringData: the server never returns it, so it could not be told apart from what is there.
        "data": {names.SENTRY_KEY: base64.b64encode(dsn.encode()).decode()},
    }
