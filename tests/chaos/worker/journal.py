"""Where is it written down what happened, so that no kill can take it back?

An append-only file outside Redis, one JSON object a line, written by tasks, clients and the campaign itself. One line
is one `write` to a descriptor opened with O_APPEND: lines of many processes never mix, and what was written is the
kernel's, so that a SIGKILL at any later instruction leaves it there. Times are CLOCK_MONOTONIC, which all processes of
a machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def note(path: str | Path, what: str, **more: Any) -> None:
    """Append one record, stamped with the time."""
    line = json.dumps({"what": what, "at": time.monotonic(), **more}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


class Reader:
    """Reads a journal that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._offset = 0

    def read(self) -> list[Record]:
        """All records written by now."""
        self.records += self._new()
        return self.records

    def _new(self) -> Iterator[Record]:
        if not self.path.exists():
            return
        with self.path.open("rb") as journal:
            journal.seek(self._offset)
            for line in journal:
                self._offset += len(line)
                yield json.loads(line)
