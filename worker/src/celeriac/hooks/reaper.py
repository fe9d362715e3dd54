"""Who reaps orphaned processes when the worker is PID 1?

In a container the worker is PID 1, and the kernel makes it the parent of every process that a task has started and left
behind. When such a process ends, it stays a zombie until its parent reads its exit status. Celery reads only the exit
statuses of its own children. This module reads the others.

It must not read an exit status too early: it can be read only once, and a task that runs in the worker's own process
(threads, solo) may still need that of a program it has started. Therefore a zombie is reaped only after it has been a
zombie for a while (`PATIENCE_SECONDS`), and never if it is one of the pool's processes.
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
"""Prefork: the parent runs no tasks, so no other code will read the exit status."""
INLINE_PATIENCE_SECONDS: Final = 3600.0
"""Threads, solo, gevent: a task may still read the exit status, late."""


def choose(
    zombies: Iterable[int], pool: Iterable[int], first_seen: Mapping[int, float], *, now: float, patience_seconds: float
) -> set[int]:
    """(pure) Which zombies to reap: those that have been zombies for `patience_seconds`, without the pool's own."""
    return {pid for pid in set(zombies) - set(pool) if now - first_seen.get(pid, now) >= patience_seconds}


class Reaper:
    """Reaps orphaned processes if this process is PID 1; otherwise does nothing.

    Args:
        pool_processes: returns the PIDs of the pool's children; `None` if tasks run in this process.
    """

    def __init__(self, pool_processes: Callable[[], list[int] | None]) -> None:
        self.pool_processes = pool_processes
        self._first_seen: dict[int, float] = {}
        self._loop = Loop(lambda: self.run_once(time.monotonic()), name="reaper", seconds=SCAN_SECONDS)

    def start(self) -> None:
        """Look for zombies every `SCAN_SECONDS`, if this process is PID 1."""
        if os.getpid() == 1:
            self._loop.start()

    def stop(self) -> None:
        """Stop looking for zombies."""
        self._loop.stop()

    def run_once(self, now: float) -> set[int]:
        """Look for zombies once, and return the PIDs that were reaped."""
        own = self.pool_processes()
        dead = zombies_of(os.getpid())
        self._first_seen = {pid: self._first_seen.get(pid, now) for pid in dead}
        patience = INLINE_PATIENCE_SECONDS if own is None else PATIENCE_SECONDS
        reaped = choose(dead, own or (), self._first_seen, now=now, patience_seconds=patience)
        for pid in reaped:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return reaped


def zombies_of(parent: int) -> list[int]:
    """Children of `parent` that have ended and whose exit status has not been read."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in (task / "children").read_text().split():
                stat = Path(f"/proc/{pid}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "Z":
                    found.append(int(pid))
    return found
