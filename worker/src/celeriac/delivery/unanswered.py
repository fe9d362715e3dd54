"""Finds the messages of a take whose reply was lost.

The server may have taken messages for this process before the connection was lost. This process does not know of them,
so their leases are not renewed and their tasks do not run. A paused server may run the script after its client has
disconnected, and even after the first search. So the search starts as soon as Redis answers, and is repeated for the
length of a lease.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from celeriac.store import keys


@dataclass(slots=True)
class Unanswered:
    """One take: its possible deliveries, and the queues that it may have taken from."""

    ids: list[str]
    queues: list[str]
    until: float | None = None
    """When the search ends; set after Redis was first asked."""


class UnansweredTakes:
    """The takes of one process that got no reply."""

    def __init__(self) -> None:
        self._takes: list[Unanswered] = []

    def add(self, ids: Iterable[str], queues: Iterable[str]) -> None:
        """Look for these deliveries from now on."""
        self._takes.append(Unanswered(list(ids), list(queues)))

    def find(
        self, client: Any, *, prefix: str, known: Collection[str], now: float, seconds: float
    ) -> dict[str, list[str]]:
        """Return, by queue, the ids of deliveries that Redis holds for this process and that it does not know.

        Args:
            client: a redis-py client.
            prefix: the transport's `global_keyprefix`.
            known: the ids of deliveries that this process knows.
            now: time of a monotonic clock, in seconds.
            seconds: how long the search goes on after Redis was first asked.

        Raises:
            OSError, redis.exceptions.RedisError: Redis is unavailable; the search is repeated later.
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
