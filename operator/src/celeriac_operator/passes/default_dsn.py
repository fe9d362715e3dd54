"""What is the Sentry DSN of pools that set none? A file has it, so it can be a mounted Secret and change at any time.

The next reconciliation of a pool sees a change: after one resync period at the latest.
"""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class DefaultDsn:
    """Reads the file at each call; an empty path means that there is no such DSN."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._complained = False

    def read(self) -> str:
        """The DSN; empty: there is none. A file that cannot be read is logged once."""
        if not self._path:
            return ""
        try:
            text = Path(self._path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            if not self._complained:
                # A UnicodeDecodeError would quote the value.
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                logger.warning("the Sentry DSN for all pools cannot be read from %s: %s", self._path, why)
            self._complained = True
            return ""
        self._complained = False
        return text
