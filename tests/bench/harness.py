"""What every benchmark here does: the peer and ours in turn in one run, several repeats, a table, one JSON line.

The machine is shared and small, so absolute figures differ from run to run; ratios within a run are what counts. A
`ratio` above 1 means that ours is better.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.worker.processes import RedisServer, free_port
from tests.waiting import eventually

APPS = Path(__file__).parent / "apps"


@dataclass
class Comparison:
    """Figures of both sides, one for each repeat."""

    name: str
    unit: str
    less_is_better: bool = False
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        if self.less_is_better:
            ours, peer = peer, ours
        return ours / peer if peer else float("inf")

    def row(self) -> list[str]:
        def figure(values: list[float]) -> str:
            return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"

        return [self.name, figure(self.ours), figure(self.peer), f"{self.ratio():.2f}", self.unit]


def alternate(repeats: int, comparison: Comparison, ours: Callable[[], float], peer: Callable[[], float]) -> Comparison:
    """Measure both sides in turn; which goes first changes with each repeat."""
    for repeat in range(repeats):
        sides = [(comparison.ours, ours), (comparison.peer, peer)]
        for values, measure in sides if repeat % 2 else sides[::-1]:
            values.append(measure())
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return comparison


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(str(row[at])) for row in [head, *rows]) for at in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def report(main: Comparison, details: Mapping[str, Any] | None = None, others: Sequence[Comparison] = ()) -> None:
    """The table, and as the last line the JSON object."""
    print_table(["what", "ours", "peer", "ratio", "unit"], [it.row() for it in [main, *others]])
    found = {
        it.name: {
            "ours": statistics.median(it.ours),
            "peer": statistics.median(it.peer),
            "ratio": round(it.ratio(), 3),
            "unit": it.unit,
        }
        for it in others
    }
    print_result(
        main.name,
        statistics.median(main.ours),
        statistics.median(main.peer),
        main.ratio(),
        main.unit,
        {**found, **(details or {})},
    )


def print_result(name: str, ours: float, peer: float, ratio: float, unit: str, details: Mapping[str, Any]) -> None:
    line = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(ratio, 3), "unit": unit}
    print(json.dumps({**line, "details": details}))


@contextlib.contextmanager
def a_redis(**options: str) -> Iterator[RedisServer]:
    """A redis-server for the run, in memory unless the options say otherwise."""
    directory = Path(tempfile.mkdtemp(prefix="celeriac-bench-"))
    server = RedisServer(directory, **{"appendonly": "no", "save": "", **options}).start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


class Worker:
    """A worker process of either side on the bench's application."""

    def __init__(
        self,
        url: str,
        *,
        ours: bool,
        pool: str,
        concurrency: int,
        prefetch: int,
        lease_seconds: int = 60,
        drain_seconds: int = 300,
        app: str = "bench_app:app",
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="celeriac-bench-"))
        environment = {**os.environ, "PYTHONPATH": str(APPS), "BENCH_URL": url, "TEST_DIRECTORY": str(self.directory)}
        environment["BENCH_MULTIPLIER"] = str(prefetch)
        if ours:
            config = {
                "version": 1,
                "pool": {"namespace": "bench", "name": "bench"},
                "app": app,
                "worker": {"concurrency": concurrency, "pool": pool, "prefetch": concurrency * (prefetch - 1) or 1},
                "delivery": {"leaseSeconds": lease_seconds, "maxDeliveries": 1000},
                "liveness": {"port": free_port(), "stalledSeconds": 60},
                "drain": {"timeoutSeconds": drain_seconds},
                "logging": {"level": "WARNING"},
            }
            environment["CELERIAC_CONFIG"] = json.dumps(config)
            command = [sys.executable, "-m", "celeriac", "worker"]
        else:
            command = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", pool, "-l", "WARNING"]
            command += ["-c", str(concurrency)]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=APPS, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def resident_mib(self) -> float:
        """Memory of the worker and its children."""
        total, waiting = 0, [self.process.pid]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (thread / "children").read_text().split())
        return total / 2**20

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL of the worker and its children."""
        os.killpg(self.process.pid, 9)
        self.process.wait()


def left(client: redis.Redis) -> int:
    """Messages of the bench's queue that are not settled, on either side's keys."""
    with client.pipeline() as pipe:
        pipe.llen("celery").hlen("unacked").hlen("celeriac:held:{celery}")
        return sum(pipe.execute())


def until_done(client: redis.Redis, timeout: float = 300) -> float:
    """Wait until every message is settled; the moment."""
    eventually(lambda: left(client), lambda it: it == 0, timeout=timeout, every=0.02, what="all messages settled")
    return time.monotonic()
