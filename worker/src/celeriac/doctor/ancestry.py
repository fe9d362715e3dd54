"""Which processes are between PID 1 of the container and the worker?

This is read from /proc, which exists in every Linux container. `celeriac doctor` in a pod is not a descendant of the
worker, so it searches for the worker first.
"""

from __future__ import annotations

import signal
from pathlib import Path, PurePath
from typing import Final

from celeriac.doctor.facts import Ancestor

PROC: Final = Path("/proc")


def above(pid: int, proc: Path = PROC) -> tuple[Ancestor, ...]:
    """The ancestors of a process, its parent first. The list ends at a process that cannot be read."""
    found: list[Ancestor] = []
    parent = _parent(pid, proc)
    while parent:
        ancestor = _ancestor(parent, proc)
        if ancestor is None:
            break
        found.append(ancestor)
        parent = _parent(parent, proc)
    return tuple(found)


def find_worker(proc: Path = PROC) -> int | None:
    """PID of the worker's parent process: the lowest one if there are several; `None` if there is no worker."""
    pids = sorted(int(path.name) for path in proc.iterdir() if path.name.isdigit())
    return next((pid for pid in pids if is_worker(_arguments(pid, proc))), None)


def is_worker(arguments: tuple[str, ...]) -> bool:
    """Whether this is `celeriac worker`, `python -m celeriac worker`, or the launcher of an injected copy."""
    for at, word in enumerate(arguments[:-1]):
        if at > 0 and PurePath(word).name in {"celeriac", "launch.py"} and arguments[at + 1] == "worker":
            return PurePath(arguments[0]).name.startswith("py")
    return False


def _ancestor(pid: int, proc: Path) -> Ancestor | None:
    status = _status(pid, proc)
    if not status:
        return None
    caught = int(status.get("SigCgt", "0"), 16)
    arguments = _arguments(pid, proc)
    # Use the name from the arguments: the kernel names the process of a script after the script, not the interpreter.
    name = PurePath(arguments[0].removeprefix("-")).name if arguments else status.get("Name", "?")
    return Ancestor(pid=pid, name=name, arguments=arguments, catches_sigterm=bool(caught >> (signal.SIGTERM - 1) & 1))


def _parent(pid: int, proc: Path) -> int:
    return int(_status(pid, proc).get("PPid", "0"))


def _status(pid: int, proc: Path) -> dict[str, str]:
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _arguments(pid: int, proc: Path) -> tuple[str, ...]:
    try:
        text = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.rstrip("\0").split("\0")) if text else ()
