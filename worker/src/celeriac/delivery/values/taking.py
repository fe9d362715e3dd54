"""(pure) What is the script that takes messages given, and what did it answer?

The fetch, `basic_get` and the settling outside of it all run `scripts.TAKE`; its keys and arguments are laid out here
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from celeriac.store import keys
from celeriac.store.replies import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the script said."""

    place: int | None
    """Every list was found empty, and the caller stands here (from 0) in the line of those who wait; a change of any
    list is announced to a connection that tracks. `None`: there may be more messages."""
    lost: list[str]
    """Ids that somebody else had given back when they were to be settled."""
    taken: list[tuple[int, int, bytes]]
    """Number of the delivery id after the first, number of the queue in the order asked for (both from 0), message; in
    the order of delivery."""
    failed: dict[int, str] = field(default_factory=dict)
    """Number of a queue (from 0; -1: the line of those who wait) -> why nothing could be taken from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One run of the script. Without lists it only settles."""

    queues: Sequence[str] = ()
    """To take from, in the order of taking."""
    lists: Sequence[str] = ()
    """Full names of their lists, all queues of the first priority first."""
    settle: Sequence[tuple[str, str]] = ()
    """(id, queue) of deliveries that have ended; their queues need not be consumed."""
    prefix: str = ""
    """The transport's `global_keyprefix`."""
    most: int = 0
    """Messages to take at most."""
    lease_seconds: float = 0
    """How long what is taken stays the caller's."""
    identity: str = ""
    """What the ids of new deliveries begin with."""
    first: int = 0
    """The number of the first of them."""
    is_fair: bool = False
    """One from each queue in turn, instead of one queue after the other."""
    looks_first: bool = False
    """The lists are thought empty: all of them are asked with one command first."""
    says: tuple[str, int, str] | None = None
    """Key of the pool's workers, number and text of what this one says of itself; where something that is settled
    still runs, and is not known by what is held any more."""

    def build(self) -> tuple[list[str], list[Any]]:
        """The script's keys and its arguments."""
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
    """Read the script's answer as redis-py returns it, texts as bytes."""
    place, lost, failed, *taken = answer
    return Answer(
        place=place - 1 if place else None,
        lost=[text(it) for it in lost],
        taken=sorted(zip(taken[1::3], taken[::3], taken[2::3], strict=True)),
        failed={queue: text(why) for queue, why in zip(failed[::2], failed[1::2], strict=True)},
    )
