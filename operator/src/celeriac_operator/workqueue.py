"""A queue of unique keys with delays and a back-off for each key. Knows nothing of Kubernetes.

Promise: a key that is added is handed out at least once after that moment; never to two takers at once; in the order
of arrival. Many additions before it is taken are one. A key that is added while it is out comes back when it is done.

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
    """How long a key waits after its n-th failure in a row."""

    base_seconds: float = 0.5
    """After the first one: soon, since most failures are conflicts and restarts of the API server."""

    max_seconds: float = 300.0
    """What fails for good costs one attempt in five minutes."""

    def seconds(self, failures: int, jitter: float) -> float:
        """The wait; `jitter` from 0 to 1 takes off up to half of it, so that keys that failed together part."""
        full = min(self.max_seconds, self.base_seconds * 2.0 ** min(failures - 1, 32))
        return full * (1 - jitter / 2)


class Schedule(Generic[Key]):
    """The state of the queue. Times are seconds of any one clock."""

    def __init__(self, backoff: Backoff, jitter: Callable[[], float]) -> None:
        self._backoff = backoff
        self._jitter = jitter
        self._ready: dict[Key, float] = {}  # since when; in the order of arrival
        self._out: set[Key] = set()
        self._dirty: dict[Key, float] = {}  # added while out; since when
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []  # of _due, with entries that are no longer true
        self._count = 0  # keys need not be comparable
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, now: float) -> None:
        """Hand it out as soon as possible."""
        if key in self._out:
            self._dirty.setdefault(key, now)
        else:
            self._ready.setdefault(key, now)

    def add_after(self, key: Key, seconds: float, now: float) -> None:
        """Hand it out after so long at the latest; of several such wishes the earliest holds."""
        due = now + seconds
        if self._due.get(key, due) >= due:
            self._due[key] = due
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, key))

    def take(self, now: float) -> Key | None:
        """The key that has waited longest; None: none is ready. It is out until `done`."""
        self._ripen(now)
        key = next(iter(self._ready), None)
        if key is not None:
            del self._ready[key]
            self._due.pop(key, None)
            self._out.add(key)
        return key

    def restart(self, keys: Iterable[Key], now: float) -> None:
        """Forget everything but what is out, and hand out these keys."""
        self._ready.clear()
        self._due.clear()
        self._heap.clear()
        self._failures.clear()
        for key in keys:
            self.add(key, now)

    def done(self, key: Key) -> None:
        """The taker has finished with it."""
        self._out.discard(key)
        since = self._dirty.pop(key, None)
        if since is not None:
            self._ready.setdefault(key, since)

    def retry(self, key: Key, now: float) -> float:
        """It failed: hand it out again after a wait that grows. Returns the wait in seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        seconds = self._backoff.seconds(self._failures[key], self._jitter())
        self.add_after(key, seconds, now)
        return seconds

    def forget(self, key: Key) -> None:
        """It succeeded: the next failure is its first."""
        self._failures.pop(key, None)

    def seconds_to_next(self, now: float) -> float | None:
        """Until a key is ready: 0 when one is, None when none will be."""
        self._ripen(now)
        if self._ready:
            return 0.0
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def depth(self) -> int:
        """Keys that wait to be taken."""
        return len(self._ready) + len(self._dirty)

    def oldest_seconds(self, now: float) -> float:
        """How long the first of them has waited."""
        # A copy, made in one step: metrics are asked for from another thread.
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
    """A schedule that takers can wait on. For one event loop; not for threads."""

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
        """Hand it out as soon as possible."""
        self._schedule.add(key, self._clock())
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Hand it out after so long at the latest."""
        self._schedule.add_after(key, seconds, self._clock())
        self._changed.set()

    def restart(self, keys: Iterable[Key]) -> None:
        """Forget everything that waits, and hand out these keys: the takers begin anew."""
        self._schedule.restart(keys, self._clock())
        self._changed.set()

    async def get(self) -> Key:
        """Wait for a key. Call `done` with it afterwards, whatever happened."""
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
        """The taker has finished with it."""
        self._schedule.done(key)
        self._changed.set()

    def retry(self, key: Key) -> float:
        """It failed: hand it out again after a wait that grows, which is returned, in seconds."""
        seconds = self._schedule.retry(key, self._clock())
        self._changed.set()
        return seconds

    def forget(self, key: Key) -> None:
        """It succeeded: the next failure is its first."""
        self._schedule.forget(key)

    def depth(self) -> int:
        """Keys that wait to be taken."""
        return self._schedule.depth()

    def oldest_seconds(self) -> float:
        """How long the first of them has waited."""
        return self._schedule.oldest_seconds(self._clock())
