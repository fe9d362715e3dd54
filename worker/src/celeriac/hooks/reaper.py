"""Who buries processes whose parents are gone?

In a container the worker is process 1, and the kernel gives it every process that a task has started and left behind.
When such a process ends it stays a zombie until its new parent asks for its exit status. Celery asks only for its own
children, so this module asks for the others.

It must never ask too early: an exit status can be read once, and a task that runs in the worker's own process
(threads, solo) may still want that of a program it has started. So a zombie is buried only after it has been one for
a while, and never when it is one of the pool's processes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from celeriac.loop import Loop

SCAN_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 60.0
"""Prefork: the parent runs no tasks, so nobody else is going to ask."""
INLINE_PATIENCE_SECONDS: Final = 3600.0
"""Threads, solo, gevent: a task may be the one who asks, late."""


def choose(
    zombies: Iterable[int], pool: Iterable[int], first_seen: Mapping[int, float], *, now: float, patience_seconds: float
) -> set[int]:
    """(pure) Which zombies to bury: not the pool's own, and only those that have been dead for long."""
    return {pid for pid in set(zombies) - set(pool) if now - first_seen.get(pid, now) >= patience_seconds}


class Reaper:
    """Buries orphans of process 1; does nothing in any other process.

    Args:
        pool_processes: process ids of the pool's children; `None` where tasks run in this process.
    """

    def __init__(self, pool_processes: Callable[[], list[int] | None]) -> None:
        self.pool_processes = pool_processes
        self._first_seen: dict[int, float] = {}
        self._loop = Loop(lambda: self.run_once(time.monotonic()), name="reaper", seconds=SCAN_SECONDS)

    def start(self) -> None:
        """Look about every half a minute, where this is process 1."""
        if os.getpid() == 1:
            self._loop.start()

    def stop(self) -> None:
        """Look no more."""
        self._loop.stop()

    def run_once(self, now: float) -> set[int]:
        """One look; the process ids that were buried."""
        own = self.pool_processes()
        dead = zombies_of(os.getpid())
        self._first_seen = {pid: self._first_seen.get(pid, now) for pid in dead}
        patience = INLINE_PATIENCE_SECONDS if own is None else PATIENCE_SECONDS
        buried = choose(dead, own or (), self._first_seen, now=now, patience_seconds=patience)
        for pid in buried:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return buried


def zombies_of(parent: int) -> list[int]:
    """Children of `parent` that have ended and that nobody has asked for."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in (task / "children").read_text().split():
                stat = Path(f"/proc/{pid}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "Z":
                    found.append(int(pid))
    return found
