"""(pure) What does an entry of a dead-letter queue say?

Every field is built and read here, and nowhere else. All but `message` are for people and scripts that look at the
queue; they are bounded. `message` is the message byte for byte, and what `requeue` puts back.
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
    """The task's name; empty where the message names none."""
    id: str
    """The task's id; empty where the message has none."""
    why: str
    where: str
    """The worker that gave it up."""
    at: float
    """Seconds since the epoch."""
    message: bytes

    @classmethod
    def of(cls, message: bytes, *, queue: str, why: str, where: str, now: float) -> DeadEntry:
        """The entry of a message that is given up now."""
        name, task_id = (printable(it, limit=LONGEST_NAME) for it in messages.task_of(messages.read(message)))
        why = printable(why, limit=LONGEST_REASON)
        return cls(queue=queue, task=name, id=task_id, why=why, where=where, at=now, message=message)

    @classmethod
    def read(cls, written: Mapping[Any, Any], *, queue: str) -> DeadEntry:
        """Read an entry; what is missing or makes no sense in it is empty, since anybody may have written it.

        Args:
            written: fields and values as redis-py hands them over, texts or bytes.
            queue: the queue whose dead letters are read, for an entry that does not say it.
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
        """Field, value, field, value, ... as Redis keeps them."""
        values = {it.name: getattr(self, it.name) for it in fields(self)}
        values["at"] = f"{self.at:.3f}"
        return [part for pair in values.items() for part in pair]

    def sentence(self, entry: str) -> str:
        """What happened, and what to do about it, for whoever waits for the task's result.

        Args:
            entry: the id of this entry in the dead-letter queue.
        """
        return (
            f"{self.task or 'a message'}[{self.id or '?'}] was given up: {self.why}. Its message is in the dead-letter "
            f"queue of {self.queue}: `python -m celeriac dead requeue {entry}` runs it again, `dead drop` deletes it"
        )

    def payload(self) -> dict[str, Any] | None:
        """The message, if it can be read."""
        return messages.read(self.message)

    @property
    def deliveries(self) -> int:
        """How often the message was delivered without coming to an end."""
        payload = self.payload()
        return outcomes.deliveries(payload) if payload else 0


def seconds(value: Any) -> float:
    """Seconds since the epoch, as an entry or a history says them; 0 for anything that is no time.

    Times after the year 9999 cannot be shown and are none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) and 0 <= number < 253_402_300_800 else 0.0
