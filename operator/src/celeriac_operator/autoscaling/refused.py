"""(pure) How long does the autoscaler wait after the API server has refused its write of a pool's number?"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 10.0
MAX_PAUSE_SECONDS = 300.0
"""The pause after each further refusal is twice as long, up to this."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Refusals since the last write that was accepted."""

    times: int = 0
    """0: there is none."""
    message: str = ""
    """The API server's sentence about the last one."""
    until: float = 0.0
    """Time until which nothing is written."""

    def again(self, message: str, now: float) -> Refused:
        """One more write was refused."""
        pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self.times, 16))
        return Refused(times=self.times + 1, message=message, until=now + pause)
