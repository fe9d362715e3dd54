"""What can a customer and an engineer on call do with the shop, and see of it, from outside?"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from demo import waiting
from demo.kubernetes import HttpError, Kube
from localcluster.progress import say

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


@dataclass(frozen=True)
class Result:
    """What the result backend knows of a task."""

    task_id: str
    state: str
    value: Any = None
    error: str = ""
    done: datetime | None = None


@dataclass(frozen=True)
class Shop:
    """The shop in one namespace."""

    kube: Kube
    show: Callable[[str], None] = say  # what a row shows while it runs
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:6])  # makes names of this run its own
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def name(self, what: str) -> str:
        """Return a name that no other run or step uses: an order, a customer."""
        return f"{what}-{self.run}-{next(self._numbers)}"

    def start(self, task: str, **arguments: object) -> str:
        """Start a task as the buttons on the front page do, and return its id."""
        return str(self.kube.service("shop:http", f"api/tasks/{task}", arguments)["id"])

    def result(self, task_id: str) -> Result:
        """Read the state and result of a task."""
        answer = self.kube.service("shop:http", f"api/results/{task_id}")
        done = datetime.fromisoformat(answer["done"]) if answer.get("done") else None
        return Result(task_id, answer["state"], answer.get("result"), answer.get("error", ""), done)

    def wait_for_result(self, task_id: str, seconds: float) -> Result:
        """Wait until a task has succeeded or failed."""
        return waiting.until(
            f"task {task_id} is done", lambda: self.result(task_id), lambda seen: seen.state in FINAL, seconds=seconds
        )

    def mails(self, address: str) -> list[Any]:
        """List the messages that the mail server received for one address."""
        found: list[Any] = self.kube.service("mail:http", f"messages?to={address}")
        return found

    def is_open(self) -> bool:
        """Whether the shop's front door answers."""
        try:
            self.kube.request("GET", f"api/v1/namespaces/{self.kube.namespace}/services/shop:http/proxy/healthz")
        except HttpError:
            return False
        return True

    def wait_for_events(self, text: str, seconds: float) -> list[Any]:
        """Wait until an event in Sentry contains `text`, and return all that do."""
        return waiting.until(
            f"an event speaks of {text}",
            lambda: [event for event in self.sentry_events() if text in str(event)],
            bool,
            seconds=seconds,
        )

    def sentry_events(self) -> list[Any]:
        """List the events that the Sentry receiver got, oldest first."""
        found: list[Any] = self.kube.service("sentry:http", "events")
        return found
