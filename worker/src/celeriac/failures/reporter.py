"""What is a failure, and who is notified of it? This module does not depend on Sentry or any other reporter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celeriac.exceptions import DeadLetterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure, as seen by the parent process."""

    error: BaseException
    kind: str
    """Stable name for grouping: failures of the same kind and the same task are one problem."""
    task_name: str
    task_id: str
    queue: str | None = None
    args: Any = field(default=None, repr=False)
    kwargs: Any = field(default=None, repr=False)


class Reporter(Protocol):
    """Is notified of failures. Its methods must not raise."""

    def report(self, failure: Failure) -> None:
        """Report a failure that only the parent process has seen."""

    def raised(self, failure: Failure) -> None:
        """Report an exception of a task. The task's own process may have reported it too."""

    def flush(self) -> None:
        """Send waiting reports, within seconds."""


class Reporters:
    """Passes each call to several reporters, one after the other."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self.reporters = tuple(reporters)

    def report(self, failure: Failure) -> None:
        """Report a failure that only the parent process has seen."""
        for reporter in self.reporters:
            reporter.report(failure)

    def raised(self, failure: Failure) -> None:
        """Report an exception of a task."""
        for reporter in self.reporters:
            reporter.raised(failure)

    def flush(self) -> None:
        """Send waiting reports, within seconds for each reporter."""
        for reporter in self.reporters:
            reporter.flush()


def queue_of(delivery_info: Any) -> str | None:
    """The queue that a message came from, according to its delivery information."""
    info = delivery_info or {}
    return info.get("routing_key") or info.get("exchange") or None


class DeadLetter(Protocol):
    """A message that was put into a dead-letter queue. Task name and ID are empty if the message has none."""

    @property
    def queue(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def id(self) -> str: ...


def dead_letters(reporter: Reporter) -> Callable[[DeadLetter, DeadLetterError], None]:
    """A function that reports a dead letter, together with the exception that says what to do about it."""

    def report(entry: DeadLetter, error: DeadLetterError) -> None:
        name, task_id = entry.task or "-", entry.id or "-"
        failure = Failure(error=error, kind="dead-letter", task_name=name, task_id=task_id, queue=entry.queue)
        reporter.report(failure)

    return report


def report_message(reporter: Reporter, message: Any, error: BaseException, kind: str) -> None:
    """Report a message that no task could take: an unknown task, or a body that cannot be decoded."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    name, task_id, queue = headers.get("task"), headers.get("id"), None
    with contextlib.suppress(AttributeError):
        queue = queue_of(message.delivery_info)
    reporter.report(
        Failure(error=error, kind=kind, task_name=str(name or "-"), task_id=str(task_id or "-"), queue=queue)
    )
