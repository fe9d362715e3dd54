"""One life of the operator: from its start to its end, which is mostly a SIGKILL.

The operator's own waits are shortened, all in the same measure, so that a thousand plans take minutes: they decide when
something is done, never what.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celeriac_operator import workqueue
from celeriac_operator.cluster import transport, watches
from celeriac_operator.memory import resync
from celeriac_operator.passes import reconcile

ROOT = Path(__file__).parents[3]
PYTHONPATH = (ROOT, ROOT / "tools", ROOT / "operator" / "src")

ANSWER_SECONDS = 6.0
"""Long enough for a busy machine, on which a real answer must not count as none."""

WAITS: tuple[tuple[Any, str, float], ...] = (
    (reconcile, "MINOR_SECONDS", 0.2),
    (reconcile, "LEAVING_SECONDS", 0.5),
    (reconcile, "CONFLICT_SECONDS", 1.0),
    (resync, "SETTLE_SECONDS", 0.5),
    (resync, "TRAVEL_SECONDS", 0.7),  # longer than the late watches are late
    (watches, "LIST_SECONDS", ANSWER_SECONDS),
    (transport, "REQUEST_SECONDS", ANSWER_SECONDS),
)
BACKOFF_SECONDS = 0.05


def shorten_waits() -> None:
    """In the operator's process, before it starts."""
    for module, name, seconds in WAITS:
        assert getattr(module, name) > seconds, f"{name} of the operator is not what the campaign believes"
        setattr(module, name, seconds)
    workqueue.Backoff = functools.partial(workqueue.Backoff, base_seconds=BACKOFF_SECONDS, max_seconds=2.0)  # type: ignore[misc,assignment]


@dataclass(eq=False)
class Life:
    """A running operator."""

    pid: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None
    was_killed: bool = False

    def kill(self) -> None:
        """SIGKILL, at once."""
        if not self.ended.is_set():
            self.was_killed = True
            with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
                os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """The process that operators are forked from."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._starting: dict[int, asyncio.Future[Life]] = {}
        self._living: dict[int, Life] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Nursery:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.operator.nursery",
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(map(str, PYTHONPATH))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None and self._reader is not None  # noqa: PT018
        self._process.stdin.close()
        await self._process.wait()
        self._reader.cancel()

    async def start(self, *, environment: dict[str, str], log: Path, mutant: str = "") -> Life:
        """A new operator."""
        assert self._process is not None and self._process.stdin is not None  # noqa: PT018
        number = next(self._numbers)
        future = self._starting[number] = asyncio.get_running_loop().create_future()
        order = {"id": number, "environment": environment, "log": str(log), "mutant": mutant}
        self._process.stdin.write((json.dumps(order) + "\n").encode())
        return await future

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: PT018
        async for line in self._process.stdout:
            words = json.loads(line)
            if "started" in words:
                life = self._living[words["pid"]] = Life(words["pid"])
                self._starting.pop(words["started"]).set_result(life)
            else:
                life = self._living.pop(words["ended"])
                life.code = words["code"]
                life.ended.set()
        for future in self._starting.values():
            with contextlib.suppress(asyncio.InvalidStateError):
                future.set_exception(RuntimeError("the nursery has ended"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
