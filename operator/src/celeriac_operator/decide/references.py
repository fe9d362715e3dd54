"""(pure) Which Secrets does a pool name?"""

from __future__ import annotations

from celeriac_operator import names
from celeriac_operator.resource import Broker, CeleryWorkerPool, ResultBackend


def url_keys(pool: CeleryWorkerPool) -> tuple[tuple[str, str], ...]:
    """Name and key of the Secret of each URL that workers get in their environment."""
    return _keys(pool.spec.broker, pool.spec.result_backend)


def broker_keys(pool: CeleryWorkerPool) -> tuple[tuple[str, str], ...]:
    """Name and key of the Secret with the broker's URL; empty: no Secret has it."""
    return _keys(pool.spec.broker)


def secret_names(pool: CeleryWorkerPool) -> frozenset[str]:
    """Names of all Secrets whose changes concern the pool."""
    sentry = pool.spec.sentry
    dsn = [sentry.dsn_from.secret_key_ref.name] if sentry and sentry.dsn_from else []
    inline = [names.sentry_secret(pool)] if sentry and not sentry.dsn_from else []
    notifications = pool.spec.notifications
    webhook = [notifications.slack.webhook_from.secret_key_ref.name] if notifications else []
    return frozenset([*(name for name, _ in url_keys(pool)), *dsn, *inline, *webhook])


def _keys(*sections: Broker | ResultBackend | None) -> tuple[tuple[str, str], ...]:
    sources = [section.url_from.secret_key_ref for section in sections if section and section.url_from]
    return tuple((source.name, source.key) for source in sources)
