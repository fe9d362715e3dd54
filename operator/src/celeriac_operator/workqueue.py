"""Which key is handled next, and when? A queue of unique keys with delays and a back-off per key; no Kubernetes in it.

Promise: a key that is added is handed out at least once afterwards, never to two takers at a time, in the order of
arrival. Adding a key again before it is taken changes nothing. A key that is added while a taker has it is handed out
again when that taker is done.

`Schedule` decides and takes the time as an argument; `WorkQueue` waits. A timeline of one key:

    add -> ready -> take -> out --- done ---> gone
                             |-- add, done --> ready        (something changed meanwhile)
                             |-- retry(n) ---> ready after base * 2^(n-1), at most the maximum, less up to half of it
                             |-- add_after --> ready then, unless it is taken sooner: a pass looks at everything
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long a key waits after a number of failures in a row."""

    base_seconds: float = 0.5
    """Wait after the first failure. Short, because most failures are conflicts and restarts of the API server."""

    max_seconds: float = 300.0
    """Longest wait: a permanent failure costs one attempt in five minutes."""

    def seconds(self, failures: int, jitter: float) -> float:
        """The wait in seconds. `jitter`, from 0 to 1, shortens it by up to half, so that keys that failed together are
        not retried together."""
        full = min(self.max_seconds, self.base_seconds * 2.0 ** min(failures - 1, 32))
        return full * (1 - jitter / 2)


class Schedule(Generic[Key]):
    """The state of the queue. All times are seconds on one clock."""

    def __init__(self, backoff: Backoff, jitter: Callable[[], float]) -> None:
        self._backoff = backoff
        self._jitter = jitter
        self._ready: dict[Key, float] = {}  # since when; in order of arrival
        self._out: set[Key] = set()
        self._dirty: dict[Key, float] = {}  # added while out; since when
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []  # of _due; may hold outdated entries
        self._count = 0  # keys need not be comparable
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, now: float) -> None:
        """Hand the key out as soon as possible."""
        if key in self._out:
            self._dirty.setdefault(key, now)
        else:
            self._ready.setdefault(key, now)

    def add_after(self, key: Key, seconds: float, now: float) -> None:
        """Hand the key out after this many seconds at the latest; of several calls the earliest time counts."""
        due = now + seconds
        if self._due.get(key, due) >= due:
            self._due[key] = due
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, key))

    def take(self, now: float) -> Key | None:
        """Take the key that has waited longest; None: no key is ready. It is the taker's until `done`."""
        self._ripen(now)
        key = next(iter(self._ready), None)
        if key is not None:
            del self._ready[key]
            self._due.pop(key, None)
            self._out.add(key)
        return key

    def restart(self, keys: Iterable[Key], now: float) -> None:
        """Forget every waiting key and hand out these keys. Keys that takers have are not affected."""
        self._ready.clear()
        self._due.clear()
        self._heap.clear()
        self._failures.clear()
        for key in keys:
            self.add(key, now)

    def done(self, key: Key) -> None:
        """The taker has finished with the key."""
        self._out.discard(key)
        since = self._dirty.pop(key, None)
        if since is not None:
            self._ready.setdefault(key, since)

    def retry(self, key: Key, now: float) -> float:
        """The key failed: hand it out again after a growing wait. Returns the wait in seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        seconds = self._backoff.seconds(self._failures[key], self._jitter())
        self.add_after(key, seconds, now)
        return seconds

    def forget(self, key: Key) -> None:
        """The key succeeded: its next failure counts as the first."""
        self._failures.pop(key, None)

    def seconds_to_next(self, now: float) -> float | None:
        """Seconds until a key is ready: 0 if one is ready, None if no key waits."""
        self._ripen(now)
        if self._ready:
            return 0.0
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def depth(self) -> int:
        """Number of keys that are ready and not yet taken."""
        return len(self._ready) + len(self._dirty)

    def oldest_seconds(self, now: float) -> float:
        """Seconds that the longest-waiting key has waited."""
        # A copy, made in one step: metrics are scraped from another thread.
        return max((now - since for since in list(self._ready.values())), default=0.0)

    def _ripen(self, now: float) -> None:
        while self._heap and (self._heap[0][0] <= now or not self._is_true(self._heap[0])):
            entry = heapq.heappop(self._heap)
            if self._is_true(entry):
                del self._due[entry[2]]
                self.add(entry[2], now)

    def _is_true(self, entry: tuple[float, int, Key]) -> bool:
        return self._due.get(entry[2]) == entry[0]


class WorkQueue(Generic[Key]):
    """A schedule on which takers can wait. For one event loop, not for threads."""

    def __init__(
        self,
        backoff: Backoff | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._schedule: Schedule[Key] = Schedule(backoff or Backoff(), jitter)
        self._clock = clock
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Hand the key out as soon as possible."""
        self._schedule.add(key, self._clock())
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Hand the key out after this many seconds at the latest."""
        self._schedule.add_after(key, seconds, self._clock())
        self._changed.set()

    def restart(self, keys: Iterable[Key]) -> None:
        """Forget every waiting key and hand out these keys."""
        self._schedule.restart(keys, self._clock())
        self._changed.set()

    async def get(self) -> Key:
        """Wait for a key and take it. Call `done` with it afterwards, also after an error."""
        while True:
            key = self._schedule.take(self._clock())
            if key is not None:
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(self._schedule.seconds_to_next(self._clock())):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The taker has finished with the key."""
        self._schedule.done(key)
        self._changed.set()

    def retry(self, key: Key) -> float:
        """The key failed: hand it out again after a growing wait. Returns the wait in seconds."""
        seconds = self._schedule.retry(key, self._clock())
        self._changed.set()
        return seconds

    def forget(self, key: Key) -> None:
        """The key succeeded: its next failure counts as the first."""
        self._schedule.forget(key)

    def depth(self) -> int:
        """Number of keys that are ready and not yet taken."""
        return self._schedule.depth()

    def oldest_seconds(self) -> float:
        """Seconds that the longest-waiting key has waited."""
        return self._schedule.oldest_seconds(self._clock())
