"""Python environments of programs that cannot live in ours."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python_of(name: str, lock: Path) -> str:
    """The interpreter of `.venv/<name>`, which is made when it is not there or its lock has changed."""
    directory = ROOT / ".venv" / name
    python, stamp = directory / "bin" / "python", directory / "made-from"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        uv = str(ROOT / ".venv" / "uv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, directory], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock]
        subprocess.run(install, check=True)
        stamp.write_text(digest)
    return str(python)
