"""The promises, one module each.

`run(shop)` performs the actions and returns the measurement, whether the promise holds or not. The measurement gives
the sentence that is shown, and says which part of the promise does not hold. The end-to-end tests check the same
measurements with their own assertions. A module raises only if it could not measure.
"""

from __future__ import annotations

from typing import Protocol


class Evidence(Protocol):
    """What a scenario measured."""

    def sentence(self) -> str:
        """Say what was measured, in one line."""
        ...

    def shortfall(self) -> str | None:
        """Return what the promise requires instead, or None if it holds."""
        ...
