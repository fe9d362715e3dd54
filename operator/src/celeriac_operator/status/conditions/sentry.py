"""(pure) Can failures be reported to Sentry? Workers run in any case."""

from __future__ import annotations

from celeriac_operator import names
from celeriac_operator.decide import secrets
from celeriac_operator.reasons import SentryReason, Type
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import ConditionStatus, Statement


def configured(case: Case) -> Statement | None:
    """The condition SentryConfigured; None: the pool has no sentry section."""
    pool = case.seen.pool
    if pool.spec.sentry is None:
        return None
    conflict = next((conflict for conflict in case.plan.conflicts if conflict.kind == "Secret"), None)
    if conflict is not None:
        owner = f"belongs to {conflict.owner}" if conflict.owner else "does not belong to Celeriac"
        message = f"a Secret named {conflict.name} exists and {owner}: use dsnFrom, or remove the Secret"
        return Statement(Type.SENTRY_CONFIGURED, "False", SentryReason.NAME_CONFLICT, message)
    if pool.spec.sentry.dsn_from is None and pool.spec.sentry.dsn is None:
        return _judge_default(case.seen.default_dsn, names.sentry_secret(pool))
    if pool.spec.sentry.dsn_from is None:
        message = f"the DSN is in Secret {names.sentry_secret(pool)}"
        return Statement(Type.SENTRY_CONFIGURED, "True", SentryReason.CONFIGURED, message)
    source = pool.spec.sentry.dsn_from.secret_key_ref
    return _judge_dsn(source.name, source.key, case.seen.secrets.get(source.name, secrets.ABSENT))


def _judge_default(dsn: str, secret: str) -> Statement:
    status: ConditionStatus = "False"
    match secrets.judge_dsn(dsn.encode()):
        case secrets.Dsn.EMPTY:
            reason = SentryReason.NO_DSN
            message = "neither the pool nor the operator has a DSN: failures are not reported"
        case secrets.Dsn.MALFORMED:
            reason = SentryReason.INVALID_DSN
            message = "the operator's DSN for all pools is not a valid DSN: failures are not reported"
        case secrets.Dsn.WELL_FORMED:
            status, reason = "True", SentryReason.CONFIGURED
            message = f"the DSN is in Secret {secret}: it is the operator's DSN for pools that set none"
    return Statement(Type.SENTRY_CONFIGURED, status, reason, message)


def _judge_dsn(name: str, key: str, facts: secrets.Facts) -> Statement:
    where = f"key {key} of Secret {name}"
    value = facts.values.get(key)
    status: ConditionStatus = "False"
    if not facts.readable:
        status, reason, message = "Unknown", SentryReason.UNREADABLE, f"the operator may not read Secret {name}"
    elif not facts.exists:
        reason, message = SentryReason.SECRET_NOT_FOUND, f"Secret {name} does not exist: failures are not reported"
    elif value is None:
        reason, message = SentryReason.SECRET_NOT_FOUND, f"Secret {name} has no key {key}: failures are not reported"
    elif value.dsn is secrets.Dsn.EMPTY:
        reason, message = SentryReason.INVALID_DSN, f"{where} is empty: failures are not reported"
    elif value.dsn is secrets.Dsn.MALFORMED:
        reason = SentryReason.INVALID_DSN
        message = f"{where} is not a DSN of the form https://<key>@<host>/<project>: failures are not reported"
    else:
        status, reason, message = "True", SentryReason.CONFIGURED, f"the DSN is in {where}"
    return Statement(Type.SENTRY_CONFIGURED, status, reason, message)
