"""(pure) What does `celeriac dead` show of one dead letter?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from celeriac.delivery.values import dead_entry
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.printable import printable

SHOWN_LENGTH: Final = 1000
"""Characters of one value that `show` prints."""


@dataclass(frozen=True)
class Letter:
    """One entry of a dead-letter queue."""

    entry: str
    """The entry's id in the dead-letter queue."""
    dead: DeadEntry

    def summary(self) -> dict[str, Any]:
        """What `list --json` prints."""
        return {
            "entry": self.entry,
            "queue": self.dead.queue,
            "task": self.dead.task,
            "id": self.dead.id,
            "at": moment(self.dead.at),
            "why": self.dead.why,
            "where": self.dead.where,
            "deliveries": self.dead.deliveries,
        }

    def details(self) -> dict[str, Any]:
        """What `show --json` prints."""
        payload = self.dead.payload() or {}
        record = (payload.get("properties") or {}).get("celeriac")
        history = record.get("history") if isinstance(record, dict) else None
        headers = payload.get("headers") or {}
        return {
            **self.summary(),
            "args": _text_of(headers.get("argsrepr")),
            "kwargs": _text_of(headers.get("kwargsrepr")),
            "history": [_event(it) for it in history] if isinstance(history, list) else [],
            "message": self.dead.message.decode(errors="backslashreplace"),
        }


def _event(written: Any) -> dict[str, Any]:
    """Read one event of a message's history. Any client may have written it; an invalid event becomes its reason."""
    if not isinstance(written, dict):
        return {"at": 0.0, "where": "?", "why": printable(written)}
    where, why = (_text_of(written.get(name, "?")) for name in ("where", "why"))
    return {"at": dead_entry.seconds(written.get("at")), "where": where, "why": why}


def _text_of(value: Any) -> str | None:
    """Return a text from a message unchanged, and any other value, which may be deeply nested, as one line."""
    return value if value is None or isinstance(value, str) else printable(value, limit=SHOWN_LENGTH)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
