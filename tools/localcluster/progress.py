"""Shows progress on standard error: one line per step, updated in place on a terminal.

Standard output is left to results, so that scripts can read them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

QUIET_SECONDS = 20.0  # without a terminal: seconds between two lines of a long step


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Step:
    """One piece of work: `update` may be called at any rate."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._spoke = self._started
        if self._terminal:
            self._draw()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def update(self, detail: str = "") -> None:
        self.detail = detail or self.detail
        now = time.monotonic()
        if self._terminal and now - self._spoke >= 0.2:
            self._spoke = now
            self._draw()
        elif not self._terminal and now - self._spoke >= QUIET_SECONDS:
            self._spoke = now
            say(f"  {self.title}: {self.detail + ', ' if self.detail else ''}{self.seconds:.0f} s")

    def end(self, outcome: str) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
        say(f"  {self.title}: {outcome}, {self.seconds:.1f} s")

    def _draw(self) -> None:
        sys.stderr.write(f"\r\x1b[K  {self.title}: {self.detail + ', ' if self.detail else ''}{self.seconds:.0f} s")
        sys.stderr.flush()


@contextmanager
def step(title: str, outcome: str = "done") -> Iterator[Step]:
    """Time one step; its last line says how it ended."""
    current = Step(title)
    try:
        yield current
    except BaseException as error:
        current.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    current.end(outcome)
