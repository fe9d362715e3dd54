"""The processes of a cluster: started here, found again after any crash, and no others ever ended.

A process carries its own record: the variable LOCALCLUSTER_PROCESS in its environment, which names it and the cluster's
home, and which everything that it starts inherits. So nothing has to be written down (and cannot be lost when the
starter is killed half-way), a process whose home was deleted is still found, and a reused process number is never
mistaken: before a signal is sent, the process is held by a pidfd and its start time is read again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import LocalClusterError

MARK = "LOCALCLUSTER_PROCESS"
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A live process with our mark. `started` is in clock ticks since boot; with the pid it is unique."""

    pid: int
    started: int
    name: str
    home: str


def mark(name: str, home: Path) -> str:
    return f"{name}@{home}"


def parse_mark(environ: bytes) -> tuple[str, str] | None:
    """(name, home) from the content of /proc/PID/environ, or None where there is no mark."""
    prefix = f"{MARK}=".encode()
    for entry in environ.split(b"\0"):
        if entry.startswith(prefix):
            name, at, home = os.fsdecode(entry[len(prefix) :]).partition("@")
            return (name, home) if at else None
    return None


def parse_stat(stat: str) -> tuple[str, int]:
    """(state, start time) from the content of /proc/PID/stat. The command's name may hold spaces and brackets."""
    fields = stat[stat.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def read(pid: int, proc: Path = PROC) -> Process | None:
    """The marked process with this number, if there is one. A zombie counts as gone: it holds nothing."""
    try:
        marked = parse_mark((proc / str(pid) / "environ").read_bytes())
        if marked is None:
            return None
        state, started = parse_stat((proc / str(pid) / "stat").read_text())
    except (OSError, ValueError):  # it ended between two reads, or belongs to somebody else
        return None
    return None if state in "ZX" else Process(pid, started, *marked)


def running(home: Path | None = None, proc: Path = PROC) -> list[Process]:
    """Every live process of this home, or of any."""
    found = (read(int(entry.name), proc) for entry in proc.iterdir() if entry.name.isdigit())
    return [process for process in found if process and (home is None or process.home == str(home))]


def start(name: str, argv: Sequence[str | Path], *, home: Path, log: Path) -> Process:
    """Start a process in a session of its own, so that a Ctrl-C in the terminal does not reach it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, MARK: mark(name, home)}
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(str(argv[0]), [str(word) for word in argv], environment, file_actions=files, setsid=True)
    # The kernel lets the spawner go on a moment before the new program's environment can be read.
    while (process := read(pid)) is None:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            raise LocalClusterError(f"{name} ended at once\n{tail(log)}")
    return process


def is_running(process: Process, proc: Path = PROC) -> bool:
    """Whether this process has not ended.

    Its start time tells it from a later process with the same number. The mark is not read again: in the middle of an
    exec (a version manager's `python3` does three of them) the environment is empty for a moment.
    """
    try:
        state, started = parse_stat((proc / str(process.pid) / "stat").read_text())
    except (OSError, ValueError):
        return False
    return state not in "ZX" and started == process.started


def stop(processes: Iterable[Process], *, grace_seconds: float) -> list[Process]:
    """End these and wait until they are gone; returns those that had to be killed.

    `grace_seconds` is the time between SIGTERM and SIGKILL for all of them together; 0 sends SIGKILL at once.
    """
    held = {fd: process for process in processes if (fd := _hold(process)) is not None}
    try:
        if grace_seconds > 0:
            _signal(held, signal.SIGTERM)
        late = _await_end(held, grace_seconds)
        _signal(late, signal.SIGKILL)
        _await_end(late, None)
        return list(late.values()) if grace_seconds > 0 else []
    finally:
        for fd, process in held.items():
            os.close(fd)
            _reap(process.pid)


def stop_all(home: Path, *, grace_seconds: float = 0) -> None:
    """End everything of this home, also what was started meanwhile."""
    while found := running(home):
        stop(found, grace_seconds=grace_seconds)


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error message."""
    try:
        text = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return f"(no log at {log})"
    return "\n".join(["  " + line[:300] for line in text[-lines:]] + [f"  (from {log})"])


def memory_mib(pid: int) -> int:
    """Resident memory, MiB; 0 when it has ended."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except OSError:
        return 0


def _hold(process: Process) -> int | None:
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        _reap(process.pid)
        return None
    if is_running(process):  # the number may have belonged to another process before the pidfd was opened
        return fd
    os.close(fd)
    _reap(process.pid)
    return None


def _signal(held: Mapping[int, Process], number: signal.Signals) -> None:
    for fd in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)


def _await_end(held: Mapping[int, Process], seconds: float | None) -> dict[int, Process]:
    """Wait at most `seconds` until these have ended (None: without a limit); return those that are left.

    A pidfd is readable once its process has ended.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    left = dict(held)
    poll = select.poll()
    for fd in left:
        poll.register(fd, select.POLLIN)
    while left:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ended = poll.poll(wait)
        if not ended:
            break
        for fd, _ in ended:
            poll.unregister(fd)
            del left[fd]
    return left


def _reap(pid: int) -> None:
    """Take the exit status, where the process was a child of this one."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
