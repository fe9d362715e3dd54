"""A task that fails becomes one event in Sentry, which says which task, which run of it, and which pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from demo import waiting
from demo.shop import Shop

TASK = "storefront.tasks.charge"
POOL = "shop-tasks"


@dataclass(frozen=True)
class Measured:
    """The events that the receiver got for one failed task."""

    task_id: str
    events: int
    names_task: bool
    names_id: bool
    names_pool: bool
    error: str
    integrations: tuple[str, ...] = ()

    def sentence(self) -> str:
        return f"{self.events} event: {self.error}; task {TASK}, id {self.task_id}, pool {POOL}"

    def shortfall(self) -> str | None:
        if self.events != 1:
            return "one event was promised"
        named = {"task": self.names_task, "id": self.names_id, "pool": self.names_pool}
        missing = [what for what, is_named in named.items() if not is_named]
        return f"the event does not name the task's {' and '.join(missing)}" if missing else None


def run(shop: Shop) -> Measured:
    """Let a card be declined, then another: once the second is in Sentry, no more will come of the first."""
    order, after = shop.name("order"), shop.name("order")
    task_id = shop.start("charge", order=order)
    shop.wait_for_result(task_id, seconds=60)
    waiting.until("the failure is in Sentry", lambda: len(about(shop, order)), bool, seconds=60)
    shop.wait_for_result(shop.start("charge", order=after), seconds=60)
    waiting.until("the next failure is in Sentry", lambda: len(about(shop, after)), bool, seconds=60)
    found = about(shop, order)
    text = str(found[0])
    knows = tuple(found[0].get("sdk", {}).get("integrations", ()))
    return Measured(task_id, len(found), TASK in text, task_id in text, POOL in text, said(found[0]), knows)


def about(shop: Shop, order: str) -> list[Any]:
    """List the events whose error names this order."""
    return [event for event in shop.sentry_events() if order in said(event)]


def said(event: Any) -> str:
    """Return an event's error, as its type and its text."""
    values = event.get("exception", {}).get("values") or [{}]
    return f"{values[-1].get('type', '')}: {values[-1].get('value', '')}"
