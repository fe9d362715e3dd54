"""(pure) The Secret that holds an inline DSN, so that workers read every DSN in the same way: from a mounted file."""

from __future__ import annotations

import base64
from typing import Any

from celeriac_operator import names
from celeriac_operator.desired import metadata
from celeriac_operator.resource import CeleryWorkerPool


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
