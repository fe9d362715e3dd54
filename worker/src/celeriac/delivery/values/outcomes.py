"""(pure) What becomes of a delivery?

A delivery is one hand-over of a message to a worker. It ends in exactly one of the ways below; who decides is the
transport, and this module says what each means and when a message has been delivered often enough.

A message carries its own record in `properties.celeriac`, so that counting costs no key and no round trip:
`{"deliveries": n, "history": [{"at": seconds, "why": ..., "where": ...}, ...]}`; absent on a message that was never
given back. Properties are not copied when a task retries itself, so a retry starts at zero.
"""

from __future__ import annotations

import enum
from typing import Any, Final

HISTORY_LENGTH: Final = 20
"""Entries kept in a message's history; older ones go first."""


class Outcome(enum.Enum):
    """How a delivery ends."""

    SETTLED = "settled"
    """Done, or given up by the application: acknowledged, rejected without requeue. The message is gone."""
    RETURNED = "returned"
    """Given back before it was started, by a worker that leaves. It costs no delivery and goes to the front."""
    REQUEUED = "requeued"
    """Given back after it started: rejected with requeue, its process died. Counted; goes to the end of the line."""
    EXPIRED = "expired"
    """Its worker stopped renewing the lease. Counted; goes to the front, since it has waited longest."""
    UNKNOWN_TASK = "unknown-task"
    """This worker has no task of that name, as in a rollout. Counted; given back after a delay."""
    NOT_STARTED = "not-started"
    """Celery raised where it was to begin the task. Counted; given back after a delay."""
    DEAD_LETTERED = "dead-lettered"
    """Delivered `maxDeliveries` times without an end, or undeliverable: it goes to the dead-letter queue."""

    @property
    def is_counted(self) -> bool:
        """Whether the delivery counts against `maxDeliveries`."""
        return self in {Outcome.REQUEUED, Outcome.EXPIRED, Outcome.UNKNOWN_TASK, Outcome.NOT_STARTED}

    @property
    def goes_to_front(self) -> bool:
        """Whether the message is the next to be delivered, rather than the last."""
        return self in {Outcome.RETURNED, Outcome.EXPIRED}


def deliveries(payload: dict[str, Any]) -> int:
    """Count the deliveries of a message that came to no end; 0 for a fresh one and for a record that makes no sense."""
    record = (payload.get("properties") or {}).get("celeriac")
    count = record.get("deliveries") if isinstance(record, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def why_given_up(payload: dict[str, Any], max_deliveries: int | None) -> str | None:
    """The reason, when a message just taken has used up its deliveries; `None` when it has not.

    Args:
        payload: the message as the transport stores it.
        max_deliveries: `None` means without limit.
    """
    count = deliveries(payload)
    if max_deliveries is None or count < max_deliveries:
        return None
    history = payload["properties"]["celeriac"].get("history")
    last = history[-1] if isinstance(history, list) and history else None
    reason = last.get("why") if isinstance(last, dict) else None
    return f"delivered {count} times without coming to an end" + (f"; the last time {reason}" if reason else "")


def given_back(payload: dict[str, Any], outcome: Outcome, *, now: float, where: str, why: str) -> dict[str, Any]:
    """Write a delivery's end into the message that goes back.

    Args:
        payload: the message as the transport stores it; not changed.
        outcome: how the delivery ended.
        now: seconds since the epoch, for the history.
        where: the worker.
        why: one phrase for the person who reads the dead-letter queue.
    """
    properties = dict(payload.get("properties") or {})
    properties["delivery_info"] = {**(properties.get("delivery_info") or {}), "redelivered": True}
    if outcome.is_counted:
        record = properties.get("celeriac")
        history = record.get("history") if isinstance(record, dict) else None
        entry = {"at": round(now, 3), "why": why, "where": where}
        properties["celeriac"] = {
            "deliveries": deliveries(payload) + 1,
            "history": [*(history if isinstance(history, list) else []), entry][-HISTORY_LENGTH:],
        }
    return {**payload, "properties": properties}
