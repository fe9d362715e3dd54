"""Where does an application run: its Python, its servers, its folder, and every process that it starts?"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.environments import ROOT
from tests.integration.worker.processes import RedisServer, free_port
from tests.waiting import eventually

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
"""Code that runs in the applications' own environments."""
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
LIMIT_SECONDS = 400.0
"""Limit of a wait. A large application takes minutes to start on a busy machine."""
T = TypeVar("T")


until = partial(eventually, timeout=LIMIT_SECONDS, every=0.3)
"""As `eventually`, for programs that take long to start."""


class Side(StrEnum):
    """Whose worker runs the application's tasks."""

    STOCK = "stock"
    OURS = "ours"


def become_subreaper() -> None:
    """Orphans of the processes that are started here become children of this process, so that they can be ended."""
    ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The processes below one, the nearest first."""
    found, waiting = [], [pid]
    while waiting:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{waiting.pop(0)}/task").iterdir():
                below = [int(it) for it in (thread / "children").read_text().split()]
                found += below
                waiting += below
    return found


def end_everything(spare: subprocess.Popen[bytes] | None = None) -> None:
    """Kill all processes below this one, except `spare` and its own. It ends when there are none left.

    New ones may start meanwhile, and orphans become children of this process, so it looks several times.
    """
    while True:
        spared = {spare.pid, *descendants(spare.pid)} if spare else set()
        left = [pid for pid in descendants(os.getpid()) if pid not in spared]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


class Process:
    """A program of the application, with its output in a file."""

    def __init__(self, name: str, command: list[str], *, environment: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self.log_file = directory / f"{name}.log"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def logs(self) -> str:
        return self.log_file.read_text(errors="replace")

    def until(
        self,
        read: Callable[[], T],
        is_right: Callable[[T], object] = bool,
        *,
        what: str,
        timeout: float = LIMIT_SECONDS,
    ) -> T:
        """As `eventually`; a failure shows the end of the log, and the end of the process is a failure."""

        def read_while_alive() -> T:
            if (code := self.process.poll()) is not None:
                raise AssertionError(f"{self.name} has ended with {code}")
            return read()

        try:
            return eventually(read_while_alive, is_right, timeout=timeout, what=what, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- {self.log_file.name} ---\n{self.logs()[-3000:]}") from None

    def until_logged(self, pattern: str, *, timeout: float = LIMIT_SECONDS) -> None:
        self.until(lambda: re.search(pattern, self.logs()), what=f"logged by {self.name}: {pattern}", timeout=timeout)

    def kill_all(self) -> None:
        """SIGKILL of the process and everything below it, as the end of a container does it."""
        below = descendants(self.process.pid)
        for pid in [self.process.pid, *below]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)

    def terminate(self, timeout: float = LIMIT_SECONDS) -> int:
        """SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(timeout)


@dataclass
class Place:
    """One application on one side.

    Attributes:
        python: The interpreter of the application's environment.
        volume: The folder that the init container leaves behind: the library for an image that does not have it.
        directory: Working directory of all processes; it is removed at the end.
        database: `user@host:port/name` in PostgreSQL, for an application that needs one.
        environment: Variables for all processes; an application adds its own.
    """

    side: Side
    python: Path
    volume: Path
    directory: Path
    redis: RedisServer
    database: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")
        self.environment = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    @property
    def is_ours(self) -> bool:
        return self.side is Side.OURS

    def copy_programs(self, name: str) -> None:
        """Put files of `programs/` into the working directory."""
        shutil.copytree(PROGRAMS / name, self.directory, dirs_exist_ok=True)

    def start(self, name: str, *command: str, **environment: str) -> Process:
        """Start a program of the environment (`airflow`, `python`, ...)."""
        return Process(
            name,
            [str(self.python.parent / command[0]), *command[1:]],
            environment={**self.environment, **environment},
            directory=self.directory,
        )

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a program of the environment to its end; return what it printed.

        Raises:
            AssertionError: It failed; the message has the end of its output.
        """
        done = subprocess.run(
            [str(self.python.parent / command[0]), *command[1:]],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)[:200]}: {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}")
        return done.stdout

    def worker(
        self,
        app: str,
        *,
        stock: tuple[str, ...] = (),
        name: str = "worker",
        pool: str | None = "prefork",
        concurrency: int = 2,
        queues: tuple[str, ...] = (),
        **sections: Any,
    ) -> Process:
        """Start a worker of this side, and wait until it is ready.

        Args:
            app: What `celery -A` takes.
            stock: The command of the stock worker, if it is not `celery -A APP worker`.
            name: Name of the log file.
            pool: The kind of pool; None leaves it to the application.
            concurrency: Slots.
            queues: The queues; empty leaves them to the application.
            sections: Sections of the pool's document, for our side alone.
        """
        if not self.is_ours:
            command = stock or (
                *("python", "-m", "celery", "-A", app, "worker", "-l", "INFO", "-c", str(concurrency)),
                *(("-P", pool) if pool else ()),
                *(("-Q", ",".join(queues)) if queues else ()),
            )
            worker = self.start(name, *command)
            worker.until_logged(r" ready\.")
            return worker
        port = free_port()
        document = {
            "version": 1,
            "pool": {"namespace": "default", "name": name},
            "app": app,
            "worker": {"concurrency": concurrency, **({"pool": pool} if pool else {})},
            **({"queues": list(queues)} if queues else {}),
            "liveness": {"port": port, "stalledSeconds": 60},
            "drain": {"timeoutSeconds": 60},
            **sections,
        }
        worker = self.start(
            name, "python", str(self.volume / "launch.py"), "worker",
            CELERIAC_CONFIG=json.dumps(document), CELERIAC_POD_NAME=f"{name}-pod",
            CELERIAC_POD_NAMESPACE="default", CELERIAC_TERMINATION_LOG=str(self.directory / f"{name}.last-words"),
        )  # fmt: skip
        worker.until(lambda: fetch(f"http://127.0.0.1:{port}/readyz"), what="the worker is ready")
        return worker

    def left_in_queue(self, queue: str = "celery") -> int:
        """Messages that are waiting, and those that a worker of either kind holds."""
        with self.redis.client.pipeline() as pipe:
            pipe.llen(queue).hlen("unacked").hlen(f"celeriac:held:{{{queue}}}")
            return sum(pipe.execute())


def fetch(url: str, *, timeout: float = 5, body: Any = None, headers: Mapping[str, str] | None = None) -> str:
    """The answer of an HTTP server, or an empty text where there is none, or an error.

    Args:
        body: Sent as JSON by POST.
    """
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=sent)  # noqa: S310 - of this machine
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return str(answer.read().decode()) or "empty"
    except OSError:  # urllib's errors are some of these
        return ""


def inject(directory: Path) -> Path:
    """Make what the init container makes; return its folder."""
    volume = directory / "celeriac"
    worker = ROOT / ".venv" / "worker" / "bin" / "python"
    subprocess.run([worker, "-m", "celeriac", "inject", volume, "--python=python3"], check=True, capture_output=True)
    return volume


class Postgres:
    """A PostgreSQL server of the run, with a database for each application and side."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: int(it.parent.name))
        self.programs = found[-1] if found else Path("/usr/bin")
        # The server refuses to run as root.
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def start(self) -> Postgres:
        data = self.directory / "data"
        self.directory.mkdir()
        if self.user:
            shutil.chown(self.directory, "postgres", "postgres")
        make = [*self.user, self.programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run(make, check=True, capture_output=True, cwd="/")
        serve = [*self.user, self.programs / "postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1"]
        serve += ["-k", self.directory, "-c", "fsync=off", "-c", "max_connections=300"]
        with (self.directory.parent / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen([str(it) for it in serve], cwd="/", stdout=log, stderr=log)
        ready = [self.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, what="PostgreSQL")
        return self

    def create(self, name: str) -> str:
        """Create a database; return `user@host:port/name`."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        subprocess.run([self.programs / "createdb", *address, name], check=True, capture_output=True)
        return f"postgres@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)  # at once: nothing here is kept
            self.process.wait(30)
            self.process = None


def interpreter(name: str) -> Path:
    """Where the Python of an application's environment is."""
    return ROOT / ".venv" / "applications" / name / "bin" / "python"


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)
