"""(pure) How does a delivery end?

A delivery hands a message to a worker once. It ends in exactly one of the ways below. The transport decides which; this
module defines what each of them means and when a message has reached its limit of deliveries.

A message carries its own record in `properties.celeriac`, so that counting needs no key and no round trip:
`{"deliveries": n, "history": [{"at": seconds, "why": ..., "where": ...}, ...]}`. A message that was never given back
has no record. Properties are not copied when a task retries itself, so a retry starts at zero.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Final

HISTORY_LENGTH: Final = 20
"""Entries kept in a message's history; the oldest are removed first."""
SKEW_SECONDS: Final = 60.0
"""How far the clocks of two workers may differ."""


class Outcome(enum.Enum):
    """How a delivery ends."""

    SETTLED = "settled"
    """Finished: acknowledged, or rejected by the application without requeue. The message is deleted."""
    RETURNED = "returned"
    """Given back by a leaving worker before it was started. Not counted; goes to the front."""
    REQUEUED = "requeued"
    """Given back after it started: rejected with requeue, or its process died. Counted; goes to the end."""
    EXPIRED = "expired"
    """Its worker stopped renewing the lease. Counted, unless its ETA has not come yet; goes to the front, since it has
    waited the longest."""
    UNKNOWN_TASK = "unknown-task"
    """This worker has no task of that name, for instance during a rollout. Counted; given back after a delay."""
    NOT_STARTED = "not-started"
    """Celery raised before the task began. Counted; given back after a delay."""
    DEAD_LETTERED = "dead-lettered"
    """Delivered `maxDeliveries` times without being finished, or undeliverable. Moved to the dead-letter queue."""

    @property
    def is_counted(self) -> bool:
        """Return whether the delivery counts towards `maxDeliveries`."""
        return self in {Outcome.REQUEUED, Outcome.EXPIRED, Outcome.UNKNOWN_TASK, Outcome.NOT_STARTED}

    @property
    def goes_to_front(self) -> bool:
        """Return whether the message goes to the front of its queue, not to the end."""
        return self in {Outcome.RETURNED, Outcome.EXPIRED}


def deliveries(payload: dict[str, Any]) -> int:
    """Return the unfinished deliveries of a message; 0 for a new message and for an invalid record."""
    record = (payload.get("properties") or {}).get("celeriac")
    count = record.get("deliveries") if isinstance(record, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def why_given_up(payload: dict[str, Any], max_deliveries: int | None) -> str | None:
    """Return the reason if a message that was just taken has reached its limit of deliveries, else `None`.

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


def waits_for_its_time(payload: dict[str, Any], *, now: float) -> bool:
    """Return whether the task of a message cannot have begun on any worker, because its ETA has not come yet.

    Only for an ETA with a time zone, as Celery sends it, and only if it is further away than clocks of workers differ.

    Args:
        payload: the message as the transport stores it.
        now: seconds since the epoch.
    """
    try:
        eta = datetime.fromisoformat(payload["headers"]["eta"])
        return eta.tzinfo is not None and eta.timestamp() > now + SKEW_SECONDS
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def given_back(payload: dict[str, Any], outcome: Outcome, *, now: float, where: str, why: str) -> dict[str, Any]:
    """Record the end of a delivery in the message that is given back.

    A message of a worker that has died is not counted while it waits for its ETA: its task had not begun.

    Args:
        payload: the message as the transport stores it; not changed.
        outcome: how the delivery ended.
        now: seconds since the epoch, for the history.
        where: the worker.
        why: one phrase for the person who reads the dead-letter queue.
    """
    properties = dict(payload.get("properties") or {})
    properties["delivery_info"] = {**(properties.get("delivery_info") or {}), "redelivered": True}
    is_counted = outcome.is_counted and not (outcome is Outcome.EXPIRED and waits_for_its_time(payload, now=now))
    if is_counted:
        record = properties.get("celeriac")
        history = record.get("history") if isinstance(record, dict) else None
        entry = {"at": round(now, 3), "why": why, "where": where}
        properties["celeriac"] = {
            "deliveries": deliveries(payload) + 1,
            "history": [*(history if isinstance(history, list) else []), entry][-HISTORY_LENGTH:],
        }
    return {**payload, "properties": properties}
