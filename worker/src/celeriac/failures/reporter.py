"""What is a failure, and who is notified of it? Nothing here knows of Sentry, or of any other reporter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celeriac.exceptions import DeadLetterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure as the parent process sees it."""

    error: BaseException
    kind: str
    """Stable name for grouping: the same kind of failure of the same task is one problem."""
    task_name: str
    task_id: str
    queue: str | None = None
    args: Any = field(default=None, repr=False)
    kwargs: Any = field(default=None, repr=False)


class Reporter(Protocol):
    """Is told of failures; its methods must not raise."""

    def report(self, failure: Failure) -> None:
        """Take note of a failure that only the parent process has seen."""

    def raised(self, failure: Failure) -> None:
        """Take note of what a task has raised, and what its own process may have reported."""

    def flush(self) -> None:
        """Send what is waiting, within seconds."""


class Reporters:
    """Passes each call on to several reporters, one after the other."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self.reporters = tuple(reporters)

    def report(self, failure: Failure) -> None:
        """Report a failure that only the parent process has seen."""
        for reporter in self.reporters:
            reporter.report(failure)

    def raised(self, failure: Failure) -> None:
        """Report what a task has raised."""
        for reporter in self.reporters:
            reporter.raised(failure)

    def flush(self) -> None:
        """Send what is waiting, within seconds for each reporter."""
        for reporter in self.reporters:
            reporter.flush()


def queue_of(delivery_info: Any) -> str | None:
    """The queue a message came from, as far as its delivery information says."""
    info = delivery_info or {}
    return info.get("routing_key") or info.get("exchange") or None


class DeadLetter(Protocol):
    """A message that was put into a dead-letter queue; a name or an id is empty where the message has none."""

    @property
    def queue(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def id(self) -> str: ...


def dead_letters(reporter: Reporter) -> Callable[[DeadLetter, DeadLetterError], None]:
    """What to call with a dead letter, and the exception that says what to do about it."""

    def report(entry: DeadLetter, error: DeadLetterError) -> None:
        name, task_id = entry.task or "-", entry.id or "-"
        failure = Failure(error=error, kind="dead-letter", task_name=name, task_id=task_id, queue=entry.queue)
        reporter.report(failure)

    return report


def report_message(reporter: Reporter, message: Any, error: BaseException, kind: str) -> None:
    """Tell of a message that no task could take: unknown task, undecodable body."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    name, task_id, queue = headers.get("task"), headers.get("id"), None
    with contextlib.suppress(AttributeError):
        queue = queue_of(message.delivery_info)
    reporter.report(
        Failure(error=error, kind=kind, task_name=str(name or "-"), task_id=str(task_id or "-"), queue=queue)
    )
