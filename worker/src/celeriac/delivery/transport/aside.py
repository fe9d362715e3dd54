"""(pure) Which queues are skipped for a while because messages cannot be taken from them?

The key of a queue may have a wrong type, or the worker may lack rights to it. The other queues are still read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from celeriac.store import error_replies
from celeriac.store.error_replies import Kind

logger = logging.getLogger(__name__)

SECONDS: Final = 30.0
"""How long a queue is skipped before it is tried again."""


class Aside:
    """The skipped queues of one connection; `now` is a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, errors: Mapping[str, str], now: float) -> None:
        """Skip these queues from now on, each because of its error."""
        self._until.update(dict.fromkeys(errors, now + SECONDS))
        for queue, why in errors.items():
            logger.error(
                "cannot take messages from queue %r: %s; other queues are not affected, next attempt in %g s",
                queue,
                why,
                SECONDS,
            )

    def usable(self, queues: Iterable[str], now: float) -> list[str]:
        """Return the queues that are not skipped, in the given order."""
        if not self._until:
            return list(queues)
        self._until = {queue: until for queue, until in self._until.items() if until > now}
        return [queue for queue in queues if queue not in self._until]


def outage(errors: Iterable[str], *, is_all: bool) -> str | None:
    """Return the error that concerns the whole server, or `None`.

    Args:
        errors: the errors that Redis reported for single queues.
        is_all: whether every requested queue has an error.
    """
    kinds = {why: error_replies.kind_of(why) for why in errors}
    for why, kind in kinds.items():
        if kind is Kind.OUTAGE:
            return why
    return next((why for why, kind in kinds.items() if kind is Kind.REFUSAL), None) if is_all else None
