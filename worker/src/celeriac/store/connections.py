"""Which Redis do policies use?

The application's broker if it is Redis; otherwise its result backend if it is Redis; otherwise the setting
`celeriac_redis_url` or the environment variable `CELERIAC_REDIS_URL`. Connections are made on first use and kept for
each application; a forked process makes its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from celeriac import brokers
from celeriac.exceptions import PolicyError
from celeriac.store import keys

SETTING: Final = "celeriac_redis_url"
VARIABLE: Final = "CELERIAC_REDIS_URL"
MOST_CONNECTIONS: Final = 10_000
"""Limit of a connection pool. kombu's pools raise an error beyond 10 connections, and each waiting thread needs one."""


@dataclass(frozen=True)
class Store:
    """The Redis in which policies are decided."""

    client: Any
    """A redis-py client."""
    prefix: str
    """The prefix of every key: the transport's `global_keyprefix` if the store is the broker."""
    is_broker: bool
    """Whether messages are in the same Redis, so that a decision and its message can be written in one step."""

    @property
    def revoked_prefix(self) -> str:
        """Return the prefix of the keys of revoked calls; empty on a Cluster, where a script must not read them."""
        return keys.revoked_prefix(prefix=self.prefix) if hasattr(self.client, "connection_pool") else ""


_stores: weakref.WeakKeyDictionary[Any, Store] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def store(app: Any) -> Store:
    """Return the store of an application's policies.

    Raises:
        PolicyError: the application has no Redis that policies can use.
        kombu.exceptions.OperationalError, redis.exceptions.RedisError: Redis cannot be reached.
    """
    found = _stores.get(app)
    if found is None:
        with _making:
            found = _stores.get(app)
            if found is None:
                found = _stores[app] = _make(app)
    return found


@contextlib.contextmanager
def replaced(app: Any, store: Store) -> Iterator[None]:
    """Replace the store of an application's policies for the duration of the block; for tests."""
    before = _stores.get(app)
    _stores[app] = store
    try:
        yield
    finally:
        del _stores[app]
        if before is not None:
            _stores[app] = before


def broker_client(app: Any) -> Any:
    """Return a redis-py client for the Redis broker; kombu reads the URL and the options.

    The client gives up quickly, while redis-py's default retries for seconds: its callers can go on without Redis, and
    some of them answer web requests.
    """
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    connection = app.connection_for_write(transport_options={"max_connections": MOST_CONNECTIONS})
    pool = connection.channel().pool
    pool.connection_kwargs["retry"] = Retry(ExponentialBackoff(cap=0.2, base=0.05), retries=2)
    return redis.Redis(connection_pool=pool)


def _make(app: Any) -> Store:
    if brokers.of_publishing(app.conf).is_redis:
        prefix = (app.conf.broker_transport_options or {}).get("global_keyprefix") or ""
        return Store(broker_client(app), prefix, is_broker=True)
    backend = getattr(app.backend, "client", None)
    if brokers.of_url(app.conf.result_backend).is_redis and backend is not None:
        return Store(backend, "", is_broker=False)
    url = app.conf.get(SETTING) or os.environ.get(VARIABLE)
    if not url:
        raise PolicyError(
            f"policies need Redis: neither the broker nor the result backend of {app.main or 'this application'} is "
            f"one; set {SETTING} (or the environment variable {VARIABLE}) to a redis:// URL"
        )
    import redis

    return Store(redis.Redis.from_url(url), "", is_broker=False)
