"""Which log records does the SDK look at in vain?

It makes a breadcrumb of each record, the line of Celery's parent process included that says of each task that it was
received: they are about other tasks than the one that an event is about, and push everything else out. The SDK leaves
out what older Celery versions said there. The line that a run succeeded comes when no event of that run can follow any
more. And the SDK looks at each record again for Sentry's logs, which are off unless the application asks for them.
"""

from __future__ import annotations

import logging
from typing import Any, Final

PASSED_OVER: Final = frozenset({"celery.worker.strategy", "celery.app.trace"})
"""The loggers that say what was received and how a run ended; their errors are events."""


def is_worth_a_breadcrumb(record: logging.LogRecord) -> bool:
    """A filter for the SDK's handler of breadcrumbs."""
    return record.name not in PASSED_OVER or record.levelno > logging.INFO


def pass_over(client: Any) -> None:
    """Make the logging integration of one of the SDK's clients do no more than is wanted; safe to repeat."""
    integration = client.integrations.get("logging")
    breadcrumbs = getattr(integration, "_breadcrumb_handler", None)
    if breadcrumbs is not None:
        breadcrumbs.addFilter(is_worth_a_breadcrumb)  # the same one is added once
    if getattr(integration, "_sentry_logs_handler", None) is not None and not _takes_logs(client, integration):
        integration._sentry_logs_handler = None  # as with sentry_logs_level=None


def _takes_logs(client: Any, integration: Any) -> bool:
    asked = (client.options.get("enable_logs"), (client.options.get("_experiments") or {}).get("enable_logs"))
    return any(asked) or getattr(integration, "capture_sentry_logs", None) is True
