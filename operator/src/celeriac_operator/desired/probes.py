"""(pure) Which probes does a worker get? Three over HTTP, which the worker answers itself; none starts a process.

The liveness probe fails only for what a restart repairs, readiness means that the worker consumes, and the startup
probe allows slow imports.
"""

from __future__ import annotations

from typing import Any

from celeriac_operator import names
from celeriac_operator.resource import Liveness

STARTUP_PERIOD_SECONDS = 2
STARTUP_SECONDS = 600
"""Time that an application may take to import. A worker whose import fails exits at once by itself."""

READINESS_PERIOD_SECONDS = 5
READINESS_FAILURES = 2

TIMEOUT_SECONDS = 5
"""A worker whose CPU time is used up by tasks answers late, and must not be restarted for it."""

HUNG_GRACE_SECONDS = 10
"""A hung worker cannot drain. Without this the kubelet would wait for the pod's whole grace period, which is
minutes."""


def build(liveness: Liveness) -> dict[str, Any]:
    """Build the probes of the worker's container."""
    live = {"httpGet": _get("/livez"), "timeoutSeconds": TIMEOUT_SECONDS}
    return {
        "startupProbe": {
            **live,
            "periodSeconds": STARTUP_PERIOD_SECONDS,
            "failureThreshold": STARTUP_SECONDS // STARTUP_PERIOD_SECONDS,
            "terminationGracePeriodSeconds": HUNG_GRACE_SECONDS,
        },
        "livenessProbe": {
            **live,
            "periodSeconds": liveness.period_seconds,
            "failureThreshold": liveness.failure_threshold,
            "terminationGracePeriodSeconds": HUNG_GRACE_SECONDS,
        },
        "readinessProbe": {
            "httpGet": _get("/readyz"),
            "timeoutSeconds": TIMEOUT_SECONDS,
            "periodSeconds": READINESS_PERIOD_SECONDS,
            "failureThreshold": READINESS_FAILURES,
        },
    }


def _get(path: str) -> dict[str, Any]:
    # By name, so that a template which changes the port changes the probes too.
    return {"path": path, "port": names.HEALTH_PORT, "scheme": "HTTP"}
