"""Waits until a cluster has done something, and fails at once if a program that is needed has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from localcluster import processes
from localcluster.errors import LocalClusterError
from localcluster.flags import Files

LIMIT_SECONDS = 90.0  # seconds in practice; a machine that is busy building may be far slower
INTERVAL_SECONDS = 0.05


def wait_until(
    what: str, condition: Callable[[], Any], *, files: Files, needs: Collection[str], culprit: str, report: Any = None
) -> None:
    """Return when the condition is met.

    Raises LocalClusterError when one of the processes in `needs` ends, or after LIMIT_SECONDS, with the end of the log
    of `culprit`. `report` is called meanwhile (a progress step's `update`).
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        gone = set(needs) - {process.name for process in processes.running(files.home)}
        if gone:
            name = min(gone)
            raise LocalClusterError(
                f"{name} ended while it started; the end of its log:\n{processes.tail(files.log(name))}"
            )
        if time.monotonic() > deadline:
            last_words = processes.tail(files.log(culprit))
            raise LocalClusterError(
                f"{what}: not after {LIMIT_SECONDS:.0f} s; the end of {culprit}'s log:\n{last_words}"
            )
        if report:
            report()
        time.sleep(INTERVAL_SECONDS)
