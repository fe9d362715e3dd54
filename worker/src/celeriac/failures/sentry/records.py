"""Which log records does the SDK process without need?

It turns each record into a breadcrumb, also the line that Celery's parent process logs for each received task. Most of
these lines are not about the task of an event, and they push all other breadcrumbs out. The SDK ignores only the lines
of older Celery versions. The line that says that a run succeeded is also useless, because no event of that run can
follow. In addition, the SDK processes each record for Sentry's logs, which are off unless the application enables them.
"""

from __future__ import annotations

import logging
from typing import Any, Final

PASSED_OVER: Final = frozenset({"celery.worker.strategy", "celery.app.trace"})
"""The loggers for received tasks and for the end of runs. Their errors are reported as events."""


def is_worth_a_breadcrumb(record: logging.LogRecord) -> bool:
    """Filter for the SDK's breadcrumb handler."""
    return record.name not in PASSED_OVER or record.levelno > logging.INFO


def pass_over(client: Any) -> None:
    """Keep the logging integration of an SDK client from processing these records. Calling it twice is safe."""
    integration = client.integrations.get("logging")
    breadcrumbs = getattr(integration, "_breadcrumb_handler", None)
    if breadcrumbs is not None:
        breadcrumbs.addFilter(is_worth_a_breadcrumb)  # the same filter is added only once
    if getattr(integration, "_sentry_logs_handler", None) is not None and not _takes_logs(client, integration):
        integration._sentry_logs_handler = None  # as with sentry_logs_level=None


def _takes_logs(client: Any, integration: Any) -> bool:
    asked = (client.options.get("enable_logs"), (client.options.get("_experiments") or {}).get("enable_logs"))
    return any(asked) or getattr(integration, "capture_sentry_logs", None) is True
