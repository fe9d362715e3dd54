"""(pure) Which Secret holds a DSN that is inline in the pool, or that the operator has for all pools?

A pod cannot mount a Secret of another namespace. With this Secret workers read every DSN from a mounted file.
"""

from __future__ import annotations

import base64
from typing import Any

from celeriac_operator import names
from celeriac_operator.desired import metadata
from celeriac_operator.resource import CeleryWorkerPool


def dsn_of(pool: CeleryWorkerPool, default: str) -> str:
    """The DSN for the Secret; empty: the pool needs no such Secret. `default` is the operator's DSN for all pools.

    Only a pool with a sentry section gets the default; without the section the application's own DSN keeps applying.
    """
    sentry = pool.spec.sentry
    if sentry is None or sentry.dsn_from is not None:
        return ""
    return sentry.dsn or default


def build(pool: CeleryWorkerPool, dsn: str) -> dict[str, Any]:
    """Build the Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata.build(pool, names.sentry_secret(pool)),
        "type": "Opaque",
        # Not stringData: the server never returns it, so it could not be compared.
        "data": {names.SENTRY_KEY: base64.b64encode(dsn.encode()).decode()},
    }
