"""(pure) Can notifications of failures be sent? Workers run in any case."""

from __future__ import annotations

from celeriac_operator.decide import secrets
from celeriac_operator.reasons import NotificationsReason, Type
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import ConditionStatus, Statement


def configured(case: Case) -> Statement | None:
    """The condition NotificationsConfigured; None: the pool has no notifications section."""
    notifications = case.seen.pool.spec.notifications
    if notifications is None:
        return None
    source = notifications.slack.webhook_from.secret_key_ref
    name, key = source.name, source.key
    facts = case.seen.secrets.get(name, secrets.ABSENT)
    value = facts.values.get(key)
    status: ConditionStatus = "False"
    if not facts.readable:
        status, reason, message = "Unknown", NotificationsReason.UNREADABLE, f"the operator may not read Secret {name}"
    elif not facts.exists:
        reason = NotificationsReason.SECRET_NOT_FOUND
        message = f"Secret {name} does not exist: no notifications are sent"
    elif value is None:
        reason = NotificationsReason.SECRET_NOT_FOUND
        message = f"Secret {name} has no key {key}: no notifications are sent"
    elif not value.is_webhook:
        reason = NotificationsReason.INVALID_WEBHOOK
        message = f"key {key} of Secret {name} is not the URL of a webhook: no notifications are sent"
    else:
        status, reason = "True", NotificationsReason.CONFIGURED
        message = f"the webhook is in key {key} of Secret {name}"
    return Statement(Type.NOTIFICATIONS_CONFIGURED, status, reason, message)
