"""Run redis-py's own tests of its lock with celeriac.Lock (`make test-redis-py`).

The tests come from the source distribution of the version that `worker/requirements-dev.lock` pins; its hash is in the
lock as well. They are unpacked outside of the repository. All must pass, except those that replace the clock of
redis-py's own module.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.integration.worker.processes import RedisServer

ROOT: Final = Path(__file__).parents[5]
LOCK: Final = ROOT / "worker" / "requirements-dev.lock"
HERE: Final = Path(__file__).parent
FAKE_THE_CLOCK: Final = {"test_blocking_timeout", "test_context_manager_blocking_timeout"}
"""They count the pauses of a lock that polls, by the clock in redis-py's module; celeriac.Lock is notified instead."""
FEWEST: Final = 30
"""Tests that passed when this was written; fewer would mean that they were not found."""


def pinned(text: str) -> str:
    """The entry of redis in a lock: version and hashes."""
    found = re.search(r"^redis==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{LOCK} pins no redis")
    return found[0]


def fetch(directory: Path, pip: Path) -> Path:
    """Download the source distribution with its hash checked, and unpack it; return its folder."""
    requirements = directory / "requirements.txt"
    requirements.write_text(pinned(LOCK.read_text()))
    command = [pip, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # pip asks the build backend for the metadata: the one that the environment's own lock pins.
    command += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "-r", requirements, "-d", directory]
    packages = next(it for it in sys.path if it.endswith("site-packages"))
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": packages})
    [archive] = directory.glob("redis-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


def outcomes(report: Path) -> dict[str, bool]:
    """Name of each test -> whether it passed, from a JUnit report."""
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest has just written it
    return {it.attrib["name"]: it.find("failure") is None and it.find("error") is None for it in cases}


def verdict(found: Mapping[str, bool]) -> list[str]:
    """What is wrong, one sentence each."""
    passed = sum(found.values())
    wrong = [f"{name} failed" for name, has_passed in found.items() if not has_passed and name not in FAKE_THE_CLOCK]
    if passed < FEWEST:
        wrong.append(f"only {passed} tests passed, not {FEWEST} or more")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pip", type=Path, required=True, help="a Python that has pip")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="celeriac-redis-py-") as name:
        directory = Path(name)
        suite = fetch(directory, flags.pip.absolute())
        server = RedisServer(directory, appendonly="no").start()
        try:
            report = directory / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=line", "-p", "in_place"]
            command += ["-c", os.devnull, "--rootdir", suite, f"--junit-xml={report}"]
            command += ["--redis-url", server.url, "tests/test_lock.py"]
            subprocess.run(
                command, cwd=suite, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), "."))}
            )
            found = outcomes(report)
        finally:
            server.kill()
    wrong = verdict(found)
    print(f"redis-py's tests of its lock, with celeriac.Lock: {sum(found.values())} of {len(found)} passed")
    print("\n".join(wrong) or f"the others fake the clock: {', '.join(sorted(FAKE_THE_CLOCK))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
