"""Which cells of the table in docs/guides/policies.md have a test? Tests say so themselves; a unit test compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])

POLICIES: Final = ("Throttle", "Unique", "Debounce", "Coalesce", "Exclusive")

CELLS: Final[dict[tuple[str, str], str]] = {}
"""(row, policy) -> name of a test."""


def covers(row: str, *policies: str) -> Callable[[Test], Test]:
    """Say that a test shows what stands in these cells of a row; without policies: in all."""

    def note(test: Test) -> Test:
        for policy in policies or POLICIES:
            assert policy in POLICIES, policy
            CELLS[row, policy] = test.__name__
        return test

    return note
