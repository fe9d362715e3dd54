"""The promises, one module each.

`run(shop)` does what the promise is about and returns what was measured, whatever it was. The measurement says in
what sentence it is shown, and in what it falls short of the promise; the end-to-end tests judge the same
measurements by assertions of their own. A module raises only when it could not measure.
"""

from __future__ import annotations

from typing import Protocol


class Evidence(Protocol):
    """What a scenario measured."""

    def sentence(self) -> str:
        """Say what was measured, in one line."""
        ...

    def shortfall(self) -> str | None:
        """Say what the promise wanted instead, or None where it holds."""
        ...
