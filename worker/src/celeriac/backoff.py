"""(pure) How long to wait between two attempts, and when to stop trying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_MAX_RETRIES: Final = 100
DEFAULT_INITIAL_SECONDS: Final = 1.0
DEFAULT_MAX_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and with which delays, something is retried."""

    max_retries: int | None = DEFAULT_MAX_RETRIES
    """Attempts after the first one; `None` never gives up."""
    initial_seconds: float = DEFAULT_INITIAL_SECONDS
    max_seconds: float = DEFAULT_MAX_SECONDS

    def delay_seconds(self, retry: int, chance: float) -> float:
        """How long to wait before retry number `retry` (from 0); `chance` is a random number in [0, 1).

        The delay is doubled each time up to the maximum, then shortened by up to one half, so that many clients that
        wait for the same thing do not retry at the same moment.
        """
        # 2 ** 64 seconds are out of reach anyway, and a larger exponent would overflow a float one day.
        whole = min(self.max_seconds, self.initial_seconds * 2.0 ** min(retry, 64))
        return whole * (1 - chance / 2)

    def is_exhausted(self, retries: int) -> bool:
        """Return whether no retries are left after `retries` of them."""
        return self.max_retries is not None and retries >= self.max_retries
