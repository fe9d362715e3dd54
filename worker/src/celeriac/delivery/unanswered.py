"""What has a take done whose answer was not received?

The server may have taken messages for this process before the connection was lost, and this process does not know of
them: nobody renews their leases, and nothing runs them. A server that was paused runs the script even after its client
has gone, and after it was first looked for. So such a take is looked for as soon as Redis answers, and then for as long
as a lease lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from celeriac.store import keys


@dataclass(slots=True)
class Unanswered:
    """One take: the deliveries that it may have made, and the queues that it may have taken from."""

    ids: list[str]
    queues: list[str]
    until: float | None = None
    """When it is no longer looked for; set once Redis was asked."""


class UnansweredTakes:
    """The unanswered takes of one process."""

    def __init__(self) -> None:
        self._takes: list[Unanswered] = []

    def add(self, ids: Iterable[str], queues: Iterable[str]) -> None:
        """Look for these deliveries from now on."""
        self._takes.append(Unanswered(list(ids), list(queues)))

    def find(
        self, client: Any, *, prefix: str, known: Collection[str], now: float, seconds: float
    ) -> dict[str, list[str]]:
        """Queue -> ids of deliveries that are held in Redis without this process's knowledge.

        Args:
            client: a redis-py client.
            prefix: the transport's `global_keyprefix`.
            known: the ids of deliveries that this process knows of.
            now: any clock in seconds that only goes forward.
            seconds: how long a take is looked for after Redis was first asked.

        Raises:
            OSError, redis.exceptions.RedisError: Redis cannot be asked now; nothing is forgotten.
        """
        found: dict[str, list[str]] = {}
        for take in list(self._takes):
            with client.pipeline(transaction=False) as pipeline:
                for queue in take.queues:
                    pipeline.hmget(keys.held(queue, prefix=prefix), take.ids)
                answers = pipeline.execute()
            for queue, values in zip(take.queues, answers, strict=True):
                ids = [it for it, value in zip(take.ids, values, strict=True) if value and it not in known]
                if ids:
                    found.setdefault(queue, []).extend(ids)
            if take.until is None:
                take.until = now + seconds
            elif now >= take.until:
                self._takes.remove(take)
        return found
