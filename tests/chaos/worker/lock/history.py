"""(pure) Did a lock keep its promise? Read from the history of its clients.

A client writes down when it asked for the lock, when it had it and with which fence, until when it is certain to hold
it, and when it began to let go. A store that compares fences writes down which writes it accepted and which it refused.
Times are one machine's monotonic clock.

* **Exclusion in time**: while one acquisition is certain to hold the lock, no other one is.
* **Fences**: no two acquisitions have the same; one that was asked for after another was had has the greater.
* **The store**: what it accepted has fences that never fall: nobody who is late overwrites somebody newer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """One time that one client held the lock."""

    client: str
    fence: int
    asked: float
    had: float
    """When the client knew that it had the lock, or was told so again: from here on it held it for certain."""
    certain_until: float
    """When it began to let go, or when the time that it was given ran out, whichever came first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """One write to the store, in the order in which the store saw them."""

    client: str
    fence: int
    accepted: bool


def check(acquisitions: Sequence[Acquisition], writes: Sequence[Write]) -> list[str]:
    """What is wrong with a history, one sentence each; nothing when the lock kept its promise."""
    return [*_held_together(acquisitions), *_fences(acquisitions), *_stale(writes)]


def _held_together(acquisitions: Sequence[Acquisition]) -> Iterator[str]:
    last: Acquisition | None = None
    for it in sorted((it for it in acquisitions if it.certain_until > it.had), key=lambda it: it.had):
        if last is not None and it.had < last.certain_until:
            seconds = min(last.certain_until, it.certain_until) - it.had
            yield (
                f"{last.client} (fence {last.fence}) and {it.client} (fence {it.fence}) both held the lock for "
                f"{seconds * 1000:.1f} ms"
            )
        if last is None or it.certain_until > last.certain_until:
            last = it


def _fences(acquisitions: Sequence[Acquisition]) -> Iterator[str]:
    owners: dict[int, str] = {}
    for it in acquisitions:
        if it.fence in owners:
            yield f"{owners[it.fence]} and {it.client} were both given fence {it.fence}"
        owners[it.fence] = it.client
    # Of all that had the lock before this one asked, the greatest fence is what counts.
    had = sorted(acquisitions, key=lambda it: it.had)
    greatest, at = 0, 0
    for it in sorted(acquisitions, key=lambda it: it.asked):
        while at < len(had) and had[at].had < it.asked:
            greatest = max(greatest, had[at].fence)
            at += 1
        if it.fence < greatest:
            yield f"{it.client} was given fence {it.fence} after somebody had {greatest}"


def _stale(writes: Sequence[Write]) -> Iterator[str]:
    greatest = 0
    for it in writes:
        if it.accepted and it.fence < greatest:
            yield f"the store accepted a write of {it.client} with fence {it.fence} after one with {greatest}"
        if it.accepted:
            greatest = max(greatest, it.fence)
