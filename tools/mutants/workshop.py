"""Where is a deliberate bug tried? In a copy of the tree of its own; the checkout is never changed."""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants.catalogue import PROGRAMS, Mutant, mutated

LIMIT_SECONDS = 300.0
"""Limit of one run of a test. A test that hangs because of the bug has noticed it."""

END_SECONDS = 20.0
"""Time for a test to end what it has started, after which it is killed."""

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Verdict(enum.Enum):
    """What a run of the tests says."""

    KILLED = "killed"
    """A test failed, or did not end."""
    SURVIVED = "survived"
    """All tests passed."""
    BROKEN = "broken"
    """The tests could not run, for example because the bug breaks an import: that says nothing about the tests."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one run."""

    verdict: Verdict
    failed: tuple[str, ...] = ()
    """The tests that failed."""
    output: str = ""


class Workshop:
    """A copy of the checkout in a temporary folder, in which one mutant is tried at a time."""

    def __init__(self, checkout: Path) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="celeriac-mutants-"))
        self.root = self._home / "tree"
        self._nurseries: dict[str, subprocess.Popen[str]] = {}
        self._test: int | None = None
        self._is_ended = self._is_late = False
        self._times = itertools.count(1)
        for path in files(checkout):
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / path, target, follow_symlinks=False)
        # Only read: the environments have the libraries, and the copy's sources come first on the import path.
        (self.root / ".venv").symlink_to(checkout / ".venv")

    def try_out(self, mutant: Mutant, tests: Sequence[str]) -> Outcome:
        """Run these tests with the bug in place; the copy is as before afterwards."""
        path = self.root / mutant.file
        before = path.read_text()
        self._write(path, mutated(mutant, before))
        try:
            return self.run(mutant.program, tests)
        finally:
            self._write(path, before)

    def run(self, program: str, tests: Sequence[str], *, at_first_failure: bool = True) -> Outcome:
        """Run tests in the copy as it is."""
        output = self._home / "output"
        arguments = ["-q", "--tb=line", "-p", "no:cacheprovider", *(["-x"] if at_first_failure else [])]
        # A test that is late on a busy machine is not a test that fails: the limit here is a longer one.
        arguments += ["--timeout=0"]
        # The libraries are imported before pytest, which would like to rewrite the assertions of some.
        arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *tests]
        nursery, self._is_late = self._nursery(program), False
        if self._is_ended or nursery.stdin is None or nursery.stdout is None:
            return Outcome(verdict=Verdict.BROKEN, output="ended")
        try:
            print(json.dumps({"arguments": arguments, "output": str(output)}), file=nursery.stdin, flush=True)
            self._test = int(json.loads(nursery.stdout.readline())["started"])
            limit = threading.Timer(LIMIT_SECONDS, self._stop_late)
            limit.start()
            code = int(json.loads(nursery.stdout.readline())["code"])
            limit.cancel()
        except ValueError:  # the nursery was ended
            return Outcome(verdict=Verdict.BROKEN, output="ended")
        # What is left of a test that did not clean up must not disturb the next one.
        self._signal(signal.SIGKILL)
        self._test = None
        if self._is_late:
            return Outcome(verdict=Verdict.KILLED, failed=("no end",))
        return read_outcome(code, output.read_text(errors="replace"))

    def end(self) -> None:
        """End the test that runs, and remove the copy. May be called from another thread."""
        self._is_ended = True
        self._stop()
        for nursery in self._nurseries.values():
            if nursery.stdin is not None:
                nursery.stdin.close()
            try:
                nursery.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                nursery.kill()
                nursery.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def _nursery(self, program: str) -> subprocess.Popen[str]:
        if program not in self._nurseries:
            sources = [str(self.root / PROGRAMS[program]), str(self.root / "tools"), str(self.root)]
            self._nurseries[program] = subprocess.Popen(
                [str(self.root / ".venv" / program / "bin" / "python"), "-m", "mutants.nursery", program],
                cwd=self.root,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sources), "PYTEST_ADDOPTS": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C reaches the tests once, through `end`
            )
        return self._nurseries[program]

    def _stop_late(self) -> None:
        self._is_late = True
        self._stop()

    def _stop(self) -> None:
        """End the test that runs: with Ctrl-C, so that it can end what it has started, then by force."""
        test = self._test
        self._signal(signal.SIGINT)
        deadline = time.monotonic() + END_SECONDS
        while test is not None and self._test == test and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._test == test:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._test is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._test, number)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Python takes a compiled file for valid if the source's size and whole second are those that it remembers: two
        # changes within a second would look the same.
        moment = 1_000_000_000 + next(self._times)
        os.utime(path, (moment, moment))


def read_outcome(code: int, output: str) -> Outcome:
    """What an exit code of pytest says: 0 all passed, 1 a test failed; anything else is not a result."""
    failed = tuple(dict.fromkeys(_FAILED.findall(output)))
    verdict = {0: Verdict.SURVIVED, 1: Verdict.KILLED}.get(code, Verdict.BROKEN)
    return Outcome(verdict=verdict, failed=failed, output=output)


def files(checkout: Path) -> list[str]:
    """The files of the checkout as they are now, without those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path and (checkout / path).is_file()]
