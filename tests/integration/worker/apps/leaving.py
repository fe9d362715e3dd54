"""An application whose tasks let everything out that Python can raise."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery

app = Celery("leaving", set_as_current=False)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


class OddError(BaseException):
    """None of Python's own."""


class UnshowableError(Exception):
    """Neither its text nor its representation can be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnshowableExit(SystemExit):
    """The same, from a family that few code catches."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnpicklableError(Exception):
    """Holds what no process can send to another one."""

    def __init__(self) -> None:
        super().__init__("unpicklable")
        self.lock = threading.Lock()


class PickyError(Exception):
    """Cannot be built from its arguments alone, as many libraries' errors."""

    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


def _recurse() -> None:
    _recurse()


def _exit_in_a_signal_handler() -> None:
    """Only the main thread of a process has signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        raise SystemExit(3)

    def leave(*_: Any) -> None:
        raise SystemExit(3)

    before = signal.signal(signal.SIGALRM, leave)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(5)
    finally:
        signal.signal(signal.SIGALRM, before)


def _while_handling() -> None:
    try:
        raise ValueError("first")
    finally:
        raise SystemExit("in a finally")


class _Leaves:
    """A context whose end exits: coverage of `__exit__`, as a roll-back that gives up."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        raise KeyboardInterrupt


def _in_a_context() -> None:
    with _Leaves():
        pass


def _group() -> BaseException:
    """Python 3.10 has no groups."""
    group = getattr(builtins, "BaseExceptionGroup", None)
    return SystemExit("no groups") if group is None else group("many", [KeyboardInterrupt(), ValueError("one")])


RAISED: dict[str, Any] = {
    "exit 0": SystemExit(0),
    "exit 1": SystemExit(1),
    "exit None": SystemExit,
    "exit with a text": SystemExit("text"),
    "exit with an object": SystemExit(object()),
    "exit that cannot be shown": UnshowableExit(),
    "exit in a signal handler": _exit_in_a_signal_handler,
    "exit in a finally": _while_handling,
    "interrupt": KeyboardInterrupt(),
    "interrupt in an __exit__": _in_a_context,
    "generator exit": GeneratorExit(),
    "cancelled": asyncio.CancelledError("cancelled"),
    "base exception": BaseException("base"),
    "own base exception": OddError("odd"),
    "group": _group(),
    "bare class": ValueError,
    "bare base class": OddError,
    "unshowable": UnshowableError(),
    "unpicklable": UnpicklableError(),
    "picky": PickyError(code=3),
    "recursion": _recurse,
    "stop iteration": StopIteration("over"),
    "memory": MemoryError("none left"),
    "lone surrogate": ValueError("\ud800"),
    "huge": ValueError("x" * 1_000_000),
}
"""By name: an exception, a class of them, or a function that comes to no good end."""


@app.task
def leave(how: str) -> None:
    with (DIRECTORY / "runs").open("a") as runs:
        runs.write(f"{how}\n")
    out = RAISED[how]
    if isinstance(out, BaseException) or (isinstance(out, type) and issubclass(out, BaseException)):
        raise out
    out()


@app.task
def add(x: int, y: int) -> int:
    return x + y
