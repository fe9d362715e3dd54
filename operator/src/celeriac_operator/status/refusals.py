"""(pure) Which errors of the API server are its answer, and not a mishap? Only a person can change an answer."""

from __future__ import annotations

from celeriac_operator.exceptions import ApiError
from celeriac_operator.reasons import Cause
from celeriac_operator.status.case import Refusal


def read(error: ApiError) -> Refusal | None:
    """The refusal that the error is; None: it is a mishap."""
    cause = _cause(error)
    return Refusal(cause=cause, message=error.message) if cause else None


def _cause(error: ApiError) -> Cause | None:
    message = error.message
    if "denied the request" in message or "denied request" in message:  # webhooks and admission policies, any status
        cause = Cause.ADMISSION_REFUSED
    elif "exceeded quota" in message:
        cause = Cause.QUOTA_EXCEEDED
    elif error.status == 403:
        # RBAC: ... is forbidden: User "x" cannot patch resource "deployments" in API group "apps" in the namespace "y"
        cause = Cause.FORBIDDEN if " cannot " in message else Cause.ADMISSION_REFUSED
    elif error.status in (400, 422) or message.startswith("failed to create typed patch object"):
        # The latter, an unknown field in an apply, comes with status 500.
        cause = Cause.INVALID_TEMPLATE
    else:
        return None
    return cause
