"""A worker of ours with sections of its document chosen by the benchmark, and its health port known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import APPS, Worker, free_port


class WatchedWorker(Worker):
    """`sections` are laid over the document; `command` runs it."""

    def __init__(
        self,
        url: str,
        *,
        pool: str,
        concurrency: int,
        sections: Mapping[str, Any] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "celeriac", "worker"),
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="celeriac-bench-"))
        self.port = free_port()
        config = {
            "version": 1,
            "pool": {"namespace": "bench", "name": "bench"},
            "app": "bench_app:app",
            "worker": {"concurrency": concurrency, "pool": pool, "prefetch": concurrency},
            "liveness": {"port": self.port, "stalledSeconds": 60},
            "drain": {"timeoutSeconds": 300},
            **(sections or {}),
        }
        environment = {**os.environ, "PYTHONPATH": str(APPS), "BENCH_URL": url, "TEST_DIRECTORY": str(self.directory)}
        environment["CELERIAC_CONFIG"] = json.dumps(config)
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                list(command), cwd=APPS, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def get(self, path: str) -> bytes | None:
        """What the health server answers; `None`: nothing, or that it is not well."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            return None
