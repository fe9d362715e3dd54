"""(pure) Which errors of the API server are permanent refusals, not transient failures? A person must act on a
refusal."""

from __future__ import annotations

from celeriac_operator.exceptions import ApiError
from celeriac_operator.reasons import Cause
from celeriac_operator.status.case import Refusal


def read(error: ApiError) -> Refusal | None:
    """Read an error as a refusal; None: it is a transient failure."""
    cause = _cause(error)
    return Refusal(cause=cause, message=error.message) if cause else None


def is_leaving(error: ApiError) -> bool:
    """Whether the namespace is being deleted or gone. Nothing can be created in it, and nobody needs to act."""
    is_ending = error.status == 403 and "because it is being terminated" in error.message
    is_gone = error.status == 404 and error.message.startswith("namespaces ") and error.message.endswith(" not found")
    return is_ending or is_gone


def _cause(error: ApiError) -> Cause | None:
    message = error.message
    if "denied the request" in message or "denied request" in message:  # webhooks and policies, any HTTP status
        cause = Cause.ADMISSION_REFUSED
    elif "exceeded quota" in message:
        cause = Cause.QUOTA_EXCEEDED
    elif error.status == 403:
        # RBAC: ... is forbidden: User "x" cannot patch resource "deployments" in API group "apps" in the namespace "y"
        cause = Cause.FORBIDDEN if " cannot " in message else Cause.ADMISSION_REFUSED
    elif error.status in (400, 422) or message.startswith("failed to create typed patch object"):
        # An unknown field in an apply ("failed to create typed patch object") has status 500.
        cause = Cause.INVALID_TEMPLATE
    else:
        return None
    return cause
