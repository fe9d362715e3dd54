"""Celery workers that lose nothing, double nothing and never hang in silence.

Importing this package loads none of its parts, and neither Celery nor redis-py; each name does when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.exceptions import CeleriacError, DuplicateCallError, PolicyError, TaskExitError
    from celeriac.locks.lock import Lock, LockLostError
    from celeriac.policies.asking import clear_claims, find_claims
    from celeriac.policies.publishing import call_dropped
    from celeriac.policies.values import Coalesce, Debounce, Exclusive, Throttle, Unique
    from celeriac.task import Task

    __version__: str
    """The installed release, or `unknown` where only the source folder is on the path."""

__all__ = [
    "CeleriacError",
    "Coalesce",
    "Debounce",
    "DuplicateCallError",
    "Exclusive",
    "Lock",
    "LockLostError",
    "PolicyError",
    "Task",
    "TaskExitError",
    "Throttle",
    "Unique",
    "call_dropped",
    "clear_claims",
    "find_claims",
]

_HOMES = {
    "CeleriacError": "exceptions",
    "Coalesce": "policies.values",
    "Debounce": "policies.values",
    "DuplicateCallError": "exceptions",
    "Exclusive": "policies.values",
    "Lock": "locks.lock",
    "LockLostError": "locks.lock",
    "PolicyError": "exceptions",
    "Task": "task",
    "TaskExitError": "exceptions",
    "Throttle": "policies.values",
    "Unique": "policies.values",
    "call_dropped": "policies.publishing",
    "clear_claims": "policies.asking",
    "find_claims": "policies.asking",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module(f"{__name__}.config.installed").version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
