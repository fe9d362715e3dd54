"""What is the URL of a pool's broker? It is read from its Secret when needed, and kept in memory only.

It is read again when the Secret's digest changes, and when the broker refuses the credentials, since the watch event of
the Secret may be late.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.scaling_request import Source
from celeriac_operator.cluster import kinds
from celeriac_operator.cluster.client import Cluster
from celeriac_operator.decide import secrets
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.reasons import Activity

DOUBT_SECONDS = 10.0
"""Pause between two reads of a Secret whose credentials the broker refuses."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """There is no URL; `message` says why."""

    activity: Activity
    message: str


@dataclass(kw_only=True)
class _Known:
    digest: str
    url: str = field(repr=False)
    read_at: float


class Credentials:
    """URLs of brokers."""

    def __init__(self, cluster: Cluster, caches: Caches, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._caches = caches
        self._clock = clock
        self._known: dict[tuple[Key, str], _Known] = {}
        self._doubted: set[str] = set()

    async def find(self, namespace: str, source: Source) -> str | Missing | None:
        """The URL as seen from the operator's namespace; None: not known yet, because no pass has read the Secret.

        Raises:
            ApiError: the Secret cannot be read.
        """
        if not source.secret:
            return urls.qualify(source.url, namespace)
        secret = Key(namespace, source.secret)
        facts = self._caches.secrets.get(secret)
        if facts is None:
            return None
        if not facts.readable:
            return Missing(
                activity=Activity.SECRET_UNREADABLE, message=f"the operator may not read Secret {source.secret}"
            )
        if not facts.exists:
            return Missing(activity=Activity.SECRET_NOT_FOUND, message=f"Secret {source.secret} does not exist")
        value = facts.values.get(source.key)
        if value is None:
            return Missing(
                activity=Activity.SECRET_NOT_FOUND, message=f"Secret {source.secret} has no key {source.key}"
            )
        known = self._known.get((secret, source.key))
        if known is None or known.digest != value.digest or self._is_doubtful(known):
            known = await self._read(secret, source.key, value.digest)
        return known.url if known else None

    def doubt(self, url: str) -> None:
        """The broker has refused the credentials of this URL."""
        self._doubted.add(url)

    def keep(self, used: Iterable[tuple[str, Source]]) -> None:
        """Forget the URLs that none of these pools (namespace, source) needs."""
        wanted = {(Key(namespace, source.secret), source.key) for namespace, source in used}
        for unused in self._known.keys() - wanted:
            del self._known[unused]
        self._doubted &= {known.url for known in self._known.values()}

    def _is_doubtful(self, known: _Known) -> bool:
        return known.url in self._doubted and self._clock() - known.read_at >= DOUBT_SECONDS

    async def _read(self, secret: Key, key: str, digest: str) -> _Known | None:
        manifest = await self._cluster.read(kinds.SECRET, secret.namespace, secret.name)
        self._caches.note_secret(secret, secrets.examine(manifest) if manifest else secrets.ABSENT)
        text = (manifest or {}).get("data", {}).get(key)
        if text is None:
            self._known.pop((secret, key), None)
            return None
        # Surrounding white space is stripped, as the worker does: files often end with a line break.
        url = urls.qualify(base64.b64decode(text).decode(errors="replace").strip(), secret.namespace)
        self._known[(secret, key)] = known = _Known(digest=digest, url=url, read_at=self._clock())
        return known
