"""A store that compares fences, outside Redis, shared by processes that may be killed at any instruction.

SQLite does the transactions: one that was not committed when its process died is rolled back by the next process that
opens the file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.chaos.worker.lock.history import Write


class FencedStore:
    """One value, guarded by the highest fence seen."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")  # the machine does not fail, only processes do
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS writes"
            " (place INTEGER PRIMARY KEY, client TEXT, fence INTEGER, accepted INTEGER)"
        )

    def write(self, client: str, fence: int) -> bool:
        """Write, unless somebody with a greater fence has written; whether it was accepted."""
        self._database.execute("BEGIN IMMEDIATE")
        (highest,) = self._database.execute("SELECT coalesce(max(fence), 0) FROM writes WHERE accepted").fetchone()
        accepted = fence >= highest
        self._database.execute(
            "INSERT INTO writes (client, fence, accepted) VALUES (?, ?, ?)", (client, fence, accepted)
        )
        self._database.execute("COMMIT")
        return accepted

    def writes(self) -> list[Write]:
        """Every write, in order."""
        rows = self._database.execute("SELECT client, fence, accepted FROM writes ORDER BY place")
        return [Write(client=client, fence=fence, accepted=bool(accepted)) for client, fence, accepted in rows]

    def close(self) -> None:
        self._database.close()
