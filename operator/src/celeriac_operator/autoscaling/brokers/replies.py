"""(pure) What does Redis reply to the script, and which figures of a pool follow from it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from celeriac_operator import bounded
from celeriac_operator.autoscaling.brokers import layout
from celeriac_operator.autoscaling.brokers.layout import Workers
from celeriac_operator.autoscaling.brokers.readings import Misbehaving, Reading
from celeriac_operator.autoscaling.policy import Figures

REFUSED: Final = object()
"""Reply for a pool whose record or reports are too large, or change all the time."""

TOO_LARGE: Final = "its layout record or its workers' reports are too large, or change all the time"


@dataclass(frozen=True)
class Said:
    """A parsed reply of the script."""

    held: int
    ready: dict[str, int]
    oldest: float | None
    reports: list[bytes]
    """What each living worker reports, not parsed yet."""

    @classmethod
    def read(cls, reply: list[Any], queues: Sequence[str]) -> Said:
        """Read the script's reply.

        Raises:
            Misbehaving: the script cannot have made it.
        """
        _, text, *reports = reply
        first, *parts = text.decode(errors="replace").split(" ")
        now = _count(first) / 1000
        held, ready, oldest = 0, {}, None
        # Parts of a queue: held, ready, and one with a bar for each list that is not empty.
        numbers: list[int] = []
        for part in parts:
            if "|" not in part:
                numbers.append(_count(part))
                continue
            published, _, eta = part.partition("|")
            waited = layout.waited_seconds(published, eta, now=now)
            if waited is not None:
                oldest = max(waited, oldest or 0.0)
        if len(numbers) != 2 * len(queues):
            raise Misbehaving("does not answer as Redis does")
        for queue, held_here, ready_here in zip(queues, numbers[::2], numbers[1::2], strict=True):
            held += held_here
            ready[queue] = ready_here
        return cls(held, ready, oldest, reports)

    def reading(self, workers: Workers, *, now: float) -> Reading:
        """The pool's figures, given its workers' reports."""
        # A message with a later ETA needs no slot yet, but its worker must stay: such messages count as one at least.
        in_flight = max(self.held - workers.scheduled, min(self.held, 1))
        figures = Figures(
            read_at=now,
            backlog=sum(self.ready.values()),
            in_flight=in_flight,
            # A report is up to a quarter of a lease old, but the held messages are current, and they fill idle slots.
            busy_slots=max(workers.busy, min(workers.slots, in_flight)),
            oldest_age_seconds=self.oldest,
            service_seconds=workers.service_seconds,
        )
        return Reading(figures, self.ready)


def _count(text: str) -> int:
    number = int(text) if len(text) <= 16 and text.isascii() and text.isdecimal() else -1
    if not bounded.is_count(number):
        raise Misbehaving("does not answer as Redis does")
    return number
