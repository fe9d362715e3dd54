"""What does a worker report to the operator's autoscaler?

The report is written into the pool's hash with each renewal of the leases, in the same round trip, and the operator
reads it. It gives the worker's slots, its running tasks, the messages that it holds beyond them, and how long recent
tasks took. A report is valid for two leases, so a dead worker is soon left out.

**Promise.** A task that waits or runs is counted somewhere at every moment. A task that is acknowledged before it runs
is not in any held set, so the report that counts it is written in the same step that removes its message from the set.
**Limit.** Apart from that, the figures are up to a quarter of a lease old.

The JSON of an entry, whose keys an operator may not all know: `slots`, `busy` (tasks that run), `prefetched` (held for
a slot), `scheduled` (held for their time), `recentTasks` and their mean `serviceSeconds` in seconds. The layout record:
`prefix`, `prioritySteps`, `separator`, as in kombu's transport options.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from celeriac import counts
from celeriac.health.vitals import scheduled, snapshot
from celeriac.metrics.tally import Snapshot
from celeriac.store import keys

RECENT: Final = 20
"""Renewals over which runtimes are averaged: five minutes with the default lease."""
KOMBUS_STEPS: Final = (0, 3, 6, 9)
KOMBUS_SEPARATOR: Final = "\x06\x16"


class AutoscalingReport:
    """The report of one worker. All methods may be called from any thread.

    Args:
        pool: `namespace/name`.
        options: the broker's transport options.
        worker: Celery's WorkController, once it is built.
        counted: reads what this worker has counted so far.
    """

    def __init__(
        self, pool: str, options: Mapping[str, Any], *, worker: Callable[[], Any], counted: Callable[[], Snapshot]
    ) -> None:
        self.workers_key = keys.workers(pool)
        self.layout_key = keys.layout(pool)
        self.layout = layout_record(options)
        self._worker = worker
        self._counted = counted
        self._recent = Recent()
        self._lock = threading.Lock()
        self._number = 0
        self._said_busy = 0

    def say(self) -> tuple[str, int, str]:
        """Return the key of the pool's hash, and the number and the text of an entry. A higher number is newer."""
        with self._lock:
            self._number += 1
            slots, busy, prefetched, scheduled = observe(self._worker())
            self._said_busy = busy
            entry = {"slots": slots, "busy": busy, "prefetched": prefetched, "scheduled": scheduled}
            return self.workers_key, self._number, json.dumps({**entry, **self._recent.said()})

    def note_runtimes(self) -> None:
        """Update the mean runtime; call this once for each renewal."""
        timings = self._counted().timings.get(counts.RUNTIME.name, {}).values()
        with self._lock:
            self._recent.add(sum(sum(it.buckets) for it in timings), sum(it.sum_seconds for it in timings))

    def say_of(self, settled: Collection[str]) -> tuple[str, int, str] | None:
        """Return what `say` returns if one of these deliveries still runs and is not in a report yet, else `None`."""
        from celery.worker import state

        active = snapshot(state.active_requests)
        if len(active) <= self._said_busy or not any(str(it.message.delivery_tag) in settled for it in active):
            return None
        return self.say()

    def forget(self) -> None:
        """Note that the last report may not have arrived."""
        self._said_busy = 0


class Recent:
    """(pure) The mean runtime of recent tasks, computed from totals that only grow."""

    def __init__(self) -> None:
        self._sums: deque[tuple[int, float]] = deque([(0, 0.0)], maxlen=RECENT + 1)

    def add(self, tasks: int, seconds: float) -> None:
        """Add the totals of all tasks that have ended until now. Without a new task the last mean stays."""
        if tasks > self._sums[-1][0]:
            self._sums.append((tasks, seconds))

    def said(self) -> dict[str, float]:
        """Return the keys for the entry; empty before the first task has ended."""
        (before, seconds_before), (now, seconds_now) = self._sums[0], self._sums[-1]
        if now == before:
            return {}
        return {
            "recentTasks": now - before,
            "serviceSeconds": round((seconds_now - seconds_before) / (now - before), 6),
        }


def observe(worker: Any) -> tuple[int, int, int, int]:
    """Return the slots, and how many messages run, wait for a slot, and wait for their ETA."""
    from celery.worker import state

    pool = getattr(worker, "pool", None)
    slots = (getattr(pool, "num_processes", None) or getattr(worker, "concurrency", None) or 0) if pool else 0
    active = set(snapshot(state.active_requests))
    waiting = sum(request not in active for request in snapshot(state.reserved_requests))
    return slots, len(active), waiting, len(scheduled(getattr(worker, "consumer", None)))


def layout_record(options: Mapping[str, Any]) -> str:
    """Describe how a transport with these options names its lists; equal options give the same text."""
    return json.dumps(
        {
            "prefix": options.get("global_keyprefix") or "",
            "prioritySteps": list(options.get("priority_steps") or KOMBUS_STEPS),
            "separator": options.get("sep") or KOMBUS_SEPARATOR,
        },
        sort_keys=True,
    )
