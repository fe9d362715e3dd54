"""Which row of a page's tables a test covers. A unit test compares the rows with the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def row(name: str) -> Callable[[F], F]:
    """Say the first cell of the row."""
    assert name
    return lambda test: test
