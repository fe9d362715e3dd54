"""Cleans up a control plane when the program that started it has ended for any reason.

Reads standard input, which ends when the starter does: a test run that is killed leaves no server and no folder behind.

usage: python -m localcluster.guard HOME
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from localcluster import processes


def clean(home: Path) -> None:
    processes.stop_all(home)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    clean(Path(sys.argv[1]))
