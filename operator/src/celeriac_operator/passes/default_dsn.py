"""The Sentry DSN for pools that name none: a file, so that it can be a mounted Secret and change without a restart.

A change is seen by the next pass over a pool: after one resync at the latest.
"""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class DefaultDsn:
    """Reads the file whenever it is asked; an empty path means that there is no default."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._complained = False

    def read(self) -> str:
        """The DSN; empty: there is none. A file that cannot be read is complained of once."""
        if not self._path:
            return ""
        try:
            text = Path(self._path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            if not self._complained:
                # An UnicodeDecodeError would quote the value.
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                logger.warning("the Sentry DSN of all pools cannot be read from %s: %s", self._path, why)
            self._complained = True
            return ""
        self._complained = False
        return text
