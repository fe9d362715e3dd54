"""(pure) What does an entry of a dead-letter queue contain?

Every field is built and read here, and nowhere else. All fields except `message` are for people and scripts that read
the queue; their size is bounded. `message` is the message byte for byte; `requeue` puts it back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from celeriac.delivery.values import messages, outcomes
from celeriac.printable import printable
from celeriac.store import replies

LONGEST_NAME: Final = 255
"""Characters of a task's name and id that are kept."""
LONGEST_REASON: Final = 1000
_SHOWN: Final = "backslashreplace"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEntry:
    """One dead message; the fields are those of the entry in Redis, in this order."""

    queue: str
    task: str
    """The task's name; empty if the message has none."""
    id: str
    """The task's id; empty if the message has none."""
    why: str
    where: str
    """The worker that dead-lettered it."""
    at: float
    """Seconds since the epoch."""
    message: bytes

    @classmethod
    def of(cls, message: bytes, *, queue: str, why: str, where: str, now: float) -> DeadEntry:
        """Return the entry of a message that is dead-lettered now."""
        name, task_id = (printable(it, limit=LONGEST_NAME) for it in messages.task_of(messages.read(message)))
        why = printable(why, limit=LONGEST_REASON)
        return cls(queue=queue, task=name, id=task_id, why=why, where=where, at=now, message=message)

    @classmethod
    def read(cls, written: Mapping[Any, Any], *, queue: str) -> DeadEntry:
        """Read an entry; missing and invalid fields become empty, since any client may have written it.

        Args:
            written: fields and values as redis-py returns them, texts or bytes.
            queue: the queue whose dead letters are read; used if the entry does not name one.
        """
        values = {replies.text(name, errors=_SHOWN): value for name, value in written.items()}
        return cls(
            queue=replies.text(values.get("queue", queue), errors=_SHOWN),
            task=replies.text(values.get("task", ""), errors=_SHOWN),
            id=replies.text(values.get("id", ""), errors=_SHOWN),
            why=replies.text(values.get("why", ""), errors=_SHOWN),
            where=replies.text(values.get("where", ""), errors=_SHOWN),
            at=seconds(replies.text(values.get("at", ""), errors=_SHOWN)),
            message=replies.content(values.get("message", b"")),
        )

    def written(self) -> list[Any]:
        """Return field, value, field, value, ... as Redis stores them."""
        values = {it.name: getattr(self, it.name) for it in fields(self)}
        values["at"] = f"{self.at:.3f}"
        return [part for pair in values.items() for part in pair]

    def sentence(self, entry: str) -> str:
        """Return what happened and what to do about it, for the code that waits for the task's result.
        Args:
            entry: the id of this entry in the dead-letter queue.
        """
        return (
            f"{self.task or 'a message'}[{self.id or '?'}] was given up: {self.why}. Its message is in the dead-letter "
            f"queue of {self.queue}: `python -m celeriac dead requeue {entry}` runs it again, `dead drop` deletes it"
        )

    def sentence_of_broker(self) -> str:
        """As `sentence`, for a broker that keeps dead letters itself, if its queue is set up to do so."""
        return (
            f"{self.task or 'a message'}[{self.id or '?'}] was given up: {self.why}. The worker has removed its "
            f"message from {self.queue or 'its queue'}; a queue with a dead-letter exchange keeps it"
        )

    def payload(self) -> dict[str, Any] | None:
        """Return the message if it can be read, else `None`."""
        return messages.read(self.message)

    @property
    def deliveries(self) -> int:
        """Return how often the message was delivered without being finished."""
        payload = self.payload()
        return outcomes.deliveries(payload) if payload else 0


def seconds(value: Any) -> float:
    """Read seconds since the epoch from an entry or a history; 0 if the value is not a time.

    Times after the year 9999 cannot be shown and do not count as times.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) and 0 <= number < 253_402_300_800 else 0.0
