"""A cluster of a test's own, beside whatever else runs on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.kubectl import Kubectl
from localcluster.paths import TOOLS, Cache


@dataclass(frozen=True)
class Machine:
    """Runs `python -m localcluster` for a cluster in a home of its own; programs and images are the shared cache's."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH": str(TOOLS), "CELERIAC_CLUSTER_HOME": str(self.home), "CELERIAC_PROVIDER": "embedded"}
        return {**os.environ, **ours}

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(Cache.default().program("kubectl"), self.home / "kubeconfig", self.home / "kubecache")

    def start(self, *words: str) -> subprocess.Popen[str]:
        # A shell lets what it starts in the background ignore Ctrl-C, and so would everything below the test.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "localcluster", *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command, which must end with this code; returns all that it said."""
        command = self.start(*words)
        out, err = command.communicate()
        assert command.returncode == code, f"localcluster {' '.join(words)}: {command.returncode}\n{out}{err}"
        return out + err

    def status(self) -> dict[str, Any]:
        found = self.start("status", "--json")
        out, err = found.communicate()
        assert found.returncode in {0, 3}, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def images(self, *names: str) -> dict[str, str]:
        made = self.start("images", "--json", *names)
        out, err = made.communicate()
        assert made.returncode == 0, err
        answer: dict[str, str] = json.loads(out)
        return answer


def new_machine() -> Iterator[Machine]:
    # Not tmp_path: sockets may have paths of 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="clr-"))
    machine = Machine(folder / "home")
    try:
        yield machine
    finally:
        machine("down")
        assert not machine.home.exists()
        shutil.rmtree(folder)
