"""(pure) Builds the keys and arguments of the script that takes messages, and reads its reply.

The fetch, `basic_get` and the settling outside of the fetch all run `scripts.TAKE`. Its keys and arguments are built
here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from celeriac.store import keys
from celeriac.store.replies import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The script's reply."""

    place: int | None
    """The caller's place (from 0) in the waiting line, if every list was empty. Any change of a list is then announced
    to a connection that tracks. `None`: there may be more messages."""
    lost: list[str]
    """Ids that could not be settled because another worker had already given them back."""
    taken: list[tuple[int, int, bytes]]
    """The messages in the order of delivery, each with the offset of its delivery id from the first id, the number of
    its queue in the requested order (both from 0), and the message."""
    failed: dict[int, str] = field(default_factory=dict)
    """Number of a queue (from 0; -1: the waiting line) -> why nothing could be taken from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One run of the script. Without lists it only settles."""

    queues: Sequence[str] = ()
    """The queues to take from, in this order."""
    lists: Sequence[str] = ()
    """Full names of their lists, ordered by priority first."""
    settle: Sequence[tuple[str, str]] = ()
    """(id, queue) of deliveries that have ended; their queues do not have to be among `queues`."""
    prefix: str = ""
    """The transport's `global_keyprefix`."""
    most: int = 0
    """Largest number of messages to take."""
    lease_seconds: float = 0
    """Length of the lease of the messages that are taken."""
    identity: str = ""
    """The prefix of the ids of new deliveries."""
    first: int = 0
    """The number of the first new delivery."""
    is_fair: bool = False
    """Whether to take one message from each queue in turn, instead of emptying one queue after the other."""
    looks_first: bool = False
    """Whether the lists are probably empty; then one command checks all of them first."""
    says: tuple[str, int, str] | None = None
    """Key of the pool's hash, and number and text of this worker's report. Only set if a delivery that is settled still
    runs, because it is then no longer among the held messages."""

    def build(self) -> tuple[list[str], list[Any]]:
        """Return the script's keys and arguments."""
        others = sorted({queue for _, queue in self.settle}.difference(self.queues))
        numbers = {queue: number for number, queue in enumerate([*self.queues, *others], 1)}
        names: list[str] = []
        for queue in numbers:
            names += (keys.held(queue, prefix=self.prefix), keys.leases(queue, prefix=self.prefix))
        lease, order = int(self.lease_seconds * 1000), "fair" if self.is_fair else "strict"
        args: list[Any] = [len(self.queues), len(others), self.most, lease, f"{self.identity}:", self.first, order]
        args += ("look" if self.looks_first else "take", len(self.settle))
        for delivery, queue in self.settle:
            args += (numbers[queue], delivery)
        args += self.says or ()
        return [*names, keys.line(min(self.queues, default=""), prefix=self.prefix), *self.lists], args


def read(answer: list[Any]) -> Answer:
    """Read the script's reply as redis-py returns it, with texts as bytes."""
    place, lost, failed, *taken = answer
    return Answer(
        place=place - 1 if place else None,
        lost=[text(it) for it in lost],
        taken=sorted(zip(taken[1::3], taken[::3], taken[2::3], strict=True)),
        failed={queue: text(why) for queue, why in zip(failed[::2], failed[1::2], strict=True)},
    )
