"""Every error that the library raises on purpose.

    CeleriacError
    ├── PolicyError            a policy and its task do not fit; the application's code must change
    ├── TaskExitError          a task raised what would have ended its worker, such as `SystemExit`; mend the task
    ├── DuplicateCallError     a call was dropped, and its policy says `on_duplicate="raise"`
    └── DeadLetterError        a message was given up; the result of its task
    redis.exceptions.LockError
    └── redis.exceptions.LockNotOwnedError
        └── LockLostError      a lock ended while its owner still worked

The lock's error is defined next to the lock: its base class is redis-py's, which takes a third of a second to import
and which a process without locks does not need.
"""

from __future__ import annotations


class CeleriacError(Exception):
    """The base of the errors that are the library's own."""


class PolicyError(CeleriacError, TypeError):
    """A policy does not fit its task: the text names the task, the parameter and the correct form."""


class DeadLetterError(CeleriacError):
    """A task's message is in the dead-letter queue: the text says why, and how the task is run again.

    The result of the task is this failure. A caller that does not have this library gets an exception of the same name.
    """


class TaskExitError(CeleriacError):
    """A task raised an exception that would have ended its worker: `SystemExit`, `KeyboardInterrupt`, `MemoryError`.

    The task has failed with it. The original exception is its cause (`__cause__`) where the task ran.
    """


class DuplicateCallError(CeleriacError):
    """A call was dropped because another call of its key stands, and its policy says `on_duplicate="raise"`.

    Attributes:
        task: name of the task.
        key: the key, as text.
        task_id: id of the call that stands.
    """

    def __init__(self, task: str, key: str, task_id: str) -> None:
        super().__init__(task, key, task_id)
        self.task = task
        self.key = key
        self.task_id = task_id

    def __str__(self) -> str:
        return f"call {self.task_id} of {self.task} has the key {self.key[:200]!r}: this one was dropped"
