"""(pure) Which queues are left out for a while, because nothing can be taken from them?

The key of a queue may have a wrong type, or its rights may be missing. The other queues go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from celeriac.store import error_replies
from celeriac.store.error_replies import Kind

logger = logging.getLogger(__name__)

SECONDS: Final = 30.0
"""How long a queue is left out before it is tried again."""


class Aside:
    """The queues of one connection; `now` is any clock in seconds that only goes forward."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, errors: Mapping[str, str], now: float) -> None:
        """Leave these queues out from now on, each because of its error."""
        self._until.update(dict.fromkeys(errors, now + SECONDS))
        for queue, why in errors.items():
            logger.error(
                "cannot take messages from queue %r: %s; other queues are not affected, next attempt in %g s",
                queue,
                why,
                SECONDS,
            )

    def usable(self, queues: Iterable[str], now: float) -> list[str]:
        """Those of the queues that may be taken from, in their order."""
        if not self._until:
            return list(queues)
        self._until = {queue: until for queue, until in self._until.items() if until > now}
        return [queue for queue in queues if queue not in self._until]


def outage(errors: Iterable[str], *, is_all: bool) -> str | None:
    """Which of these errors concerns the whole server, if any.

    Args:
        errors: what Redis said of single queues.
        is_all: every queue that was asked for has one.
    """
    kinds = {why: error_replies.kind_of(why) for why in errors}
    for why, kind in kinds.items():
        if kind is Kind.OUTAGE:
            return why
    return next((why for why, kind in kinds.items() if kind is Kind.REFUSAL), None) if is_all else None
