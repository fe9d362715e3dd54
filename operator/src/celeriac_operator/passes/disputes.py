"""Which objects does somebody keep undoing? Kept in memory: a restart of the operator begins anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from celeriac_operator.decide.dispute import Dispute
from celeriac_operator.memory.caches import Key


class Disputes:
    """The corrections of all owned objects, by pool and kind."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[str, Dispute]] = {}

    def of(self, pool: Key, now: datetime) -> Mapping[str, Dispute]:
        """The pool's disputes by kind of object."""
        current = {kind: dispute for kind, dispute in self._known.pop(pool, {}).items() if not dispute.is_over(now)}
        if current:
            self._known[pool] = current
        return {kind: dispute for kind, dispute in current.items() if dispute.is_open}

    def corrected(self, pool: Key, kind: str, reason: str, now: datetime) -> None:
        """An object has been corrected."""
        known = self._known.setdefault(pool, {})
        known[kind] = known.get(kind, Dispute()).corrected(now, reason)

    def forget(self, pool: Key) -> None:
        """The pool is gone."""
        self._known.pop(pool, None)
