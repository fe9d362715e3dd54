"""Real redis-servers and real workers as processes that a test can stop, kill, pause and look into."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis
from tests.waiting import eventually

APPS = Path(__file__).parent / "apps"
"""The applications that the tests' workers run; the working directory of every worker."""
MINIMAL = Path(__file__).parents[2] / "golden" / "contract" / "minimal.json"

T = TypeVar("T")


def free_port() -> int:
    """A port that nobody listens on, from below the range out of which the kernel serves outgoing connections.

    One that the kernel gives out itself would be taken again by any client before the server of the test listens.
    """
    while True:
        port = random.randrange(12_000, 32_000)  # noqa: S311 - ports are no secrets
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


SERVER = os.environ.get("TEST_REDIS_SERVER", "redis-server")
"""The program; `make test-matrix` names others."""


class RedisServer:
    """One redis-server on a port of its own, with every write on disk before it is answered.

    `options` are command line options of redis-server without the dashes, underscores for hyphens.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self.port = free_port()
        self.directory = directory
        self.options = {"appendonly": "yes", "appendfsync": "always", "save": "", **options}
        self.environment: dict[str, str] = {}
        """Variables of the server's process besides those of the test."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        password = self.options.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A new client; it connects when it is used."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> RedisServer:
        assert self._process is None, "redis-server runs already"
        command = [
            SERVER,
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--dir",
            str(self.directory),
        ]
        for name, value in self.options.items():
            command += [f"--{name.replace('_', '-')}", value]
        with (self.directory / "redis.log").open("ab") as log:
            environment = {**os.environ, **self.environment}
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        eventually(self._answers, what=f"redis-server answers on port {self.port}")
        return self

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._process is not None
        log = self.directory / "redis.log"
        assert self._process.poll() is None, f"redis-server ended: {log.read_text()[-2000:]}"
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:  # not listening yet, or still loading its file
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)  # a paused process hears no SIGTERM
        self._process.send_signal(how)
        self._process.wait(10)
        self._process = None


def document(app: str, *, port: int, **changes: Any) -> dict[str, Any]:
    """The minimal golden document for `app`; sections given by name are laid over it key by key."""
    result: dict[str, Any] = json.loads(MINIMAL.read_text())
    result["app"] = app
    result["liveness"]["port"] = port
    result["worker"]["extraArgs"] = ["--without-mingle", "--without-gossip"]  # mingling waits for a second at start
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = {**result[key], **value}
        else:
            result[key] = value
    return result


@dataclass(frozen=True)
class Answer:
    """What an HTTP endpoint said."""

    status: int
    body: str


class WorkerProcess:
    """`python -m celeriac worker` as Kubernetes starts it: configuration by environment, output in a file."""

    def __init__(
        self, directory: Path, config: dict[str, Any], environment: Mapping[str, str], command: list[str]
    ) -> None:
        self.port: int = config["liveness"]["port"]
        self.directory = directory
        self.log_file = directory / "worker.log"
        self.termination_log = directory / "termination-log"
        self.termination_log.touch()  # the kubelet makes it, the worker only writes
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "CELERIAC"))}
        self.environment = {
            **inherited,
            "CELERIAC_CONFIG": json.dumps(config),
            "CELERIAC_POD_NAME": "pod-1",
            "CELERIAC_POD_NAMESPACE": config["pool"]["namespace"],
            "CELERIAC_TERMINATION_LOG": str(self.termination_log),
            "PYTHONPATH": str(APPS),
            "TEST_DIRECTORY": str(directory),
            "PYTHONWARNINGS": "ignore:You're running the worker",  # as root, which tests are and pods are not
            **environment,
        }
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> WorkerProcess:
        with self.log_file.open("ab") as log:
            # A session of its own, so that what a killed parent leaves behind can be ended with it.
            self._process = subprocess.Popen(
                self.command, cwd=APPS, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def logs(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def termination_message(self) -> str:
        return self.termination_log.read_text()

    def get(self, path: str, *, timeout: float = 2) -> Answer | None:
        """Ask the health server; `None` when nothing answers in time."""
        try:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                return Answer(answer.status, answer.read().decode())
        except OSError:  # also where the head of an answer comes in time and its body does not
            return None

    def status(self) -> dict[str, Any]:
        answer = self.get("/status")
        assert answer is not None, "nothing answers on /status"
        parsed: dict[str, Any] = json.loads(answer.body)
        return parsed

    def status_if_any(self) -> dict[str, Any] | None:
        """As `status`, for a worker whose health server may not listen yet."""
        return self.status() if self.get("/status") is not None else None

    def until(
        self, read: Callable[[], T], is_right: Callable[[T], object] = bool, *, timeout: float = 60, what: str = ""
    ) -> T:
        """As `eventually`, failing at once when the worker has ended; a failure shows the worker's log."""

        def read_while_alive() -> T:
            assert self.is_alive(), f"the worker has ended with {self._exit_code()}"
            return read()

        with self.shows_log():
            return eventually(read_while_alive, is_right, timeout=timeout, what=what)

    def until_ready(self, *, timeout: float = 60) -> WorkerProcess:
        self.until(
            lambda: self.get("/readyz"), lambda it: it is not None and it.status == 200, timeout=timeout, what="ready"
        )
        return self

    def until_not_ready(self, *, timeout: float = 60) -> Answer:
        answer = self.until(
            lambda: self.get("/readyz"),
            lambda it: it is not None and it.status == 503,
            timeout=timeout,
            what="not ready",
        )
        assert answer is not None
        return answer

    def until_logged(self, pattern: str, *, timeout: float = 60) -> re.Match[str]:
        """Wait for a line of the log, also when the worker has ended meanwhile."""
        with self.shows_log():
            match = eventually(
                lambda: re.search(pattern, self.logs(), re.MULTILINE), timeout=timeout, what=f"logged: {pattern}"
            )
        assert match is not None
        return match

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end; the exit code."""
        assert self._process is not None
        with self.shows_log():
            try:
                return self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"the worker still runs after {timeout} s") from None

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL of the main process, as the out-of-memory killer does; its children are left to themselves."""
        self.signal(signal.SIGKILL)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def children(self) -> list[int]:
        """The process ids of the pool's children."""
        tasks = Path(f"/proc/{self.pid}/task")
        return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]

    def clean_up(self) -> None:
        """End the worker and everything that it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: see start()
        self._process.wait(10)

    def _exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    @contextlib.contextmanager
    def shows_log(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            tail = self.logs()[-4000:]
            raise AssertionError(f"{error}\n--- last lines of {self.log_file.name} ---\n{tail}") from None


def worker_command() -> list[str]:
    return [sys.executable, "-m", "celeriac", "worker"]
