"""`python -m mutants`: put each deliberate bug into a copy of the tree and run the test that should notice it.

Exit code: 0 if each bug was noticed, 1 if one survives or cannot be tried, 2 if a test fails without a bug.

No library for mutation testing is used. mutmut and cosmic-ray derive mutants from the syntax, thousands of them: a `+`
becomes a `-`, a constant another one. They know neither what a user would suffer nor a change of several lines, such as
a write without its precondition; cosmic-ray's operators see one node of the syntax tree, and mutmut has no mutants of
one's own. Both take one set of tests for all mutants, where here each names the quickest test that must notice it, of
two programs with an environment each.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants import catalogue
from mutants.catalogue import PROGRAMS, CatalogueError, Mutant
from mutants.workshop import Outcome, Verdict, Workshop

CHECKOUT = Path(__file__).resolve().parents[2]
SHOWN_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A mutant with its result."""

    mutant: Mutant
    outcome: Outcome
    seconds: float


class Screen:
    """Progress on standard error: one line that changes on a terminal; else a line for each survivor and each tenth."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._is_terminal = sys.stderr.isatty()

    def show(self, trial: Trial) -> None:
        """Show the newest result."""
        self._done += 1
        verdict = trial.outcome.verdict
        text = f"{self._done}/{self._total} {trial.mutant.name}: {verdict.value} in {trial.seconds:.1f} s"
        if verdict is not Verdict.KILLED:
            self.say(f"{verdict.value.upper()}: {trial.mutant.name} ({trial.mutant.file}): {trial.mutant.user}")
        elif self._is_terminal:
            print(f"\r\x1b[K{text[:150]}", end="", file=sys.stderr, flush=True)
        elif self._done % 10 == 0 or self._done == self._total:
            print(text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        print(f"\r\x1b[K{text}" if self._is_terminal else text, file=sys.stderr, flush=True)


class Run:
    """Several workshops that take mutants from one queue."""

    def __init__(self, chosen: Sequence[Mutant], *, processes: int, whole_unit: bool, screen: Screen) -> None:
        self._waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in chosen:
            self._waiting.put(mutant)
        self._whole_unit = whole_unit
        self._screen = screen
        self._lock = threading.Lock()
        self.trials: list[Trial] = []
        self.workshops = [Workshop(CHECKOUT) for _ in range(processes)]

    def check_without_bugs(self, chosen: Sequence[Mutant]) -> str:
        """Run the tests of all chosen mutants in an unchanged copy; returns why that fails, or an empty text."""
        for program in PROGRAMS:
            tests = sorted({test for mutant in chosen if mutant.program == program for test in self._tests(mutant)})
            if not tests:
                continue
            self._screen.say(f"without a bug: {len(tests)} tests of the {program}")
            outcome = self.workshops[0].run(program, tests, at_first_failure=False)
            if outcome.verdict is not Verdict.SURVIVED:
                return "\n".join(["without any bug these tests do not pass:", *_last_lines(outcome)])
        return ""

    def go(self) -> None:
        """Try all mutants; returns when all are done."""
        threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in self.workshops]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # in short steps, so that Ctrl-C arrives

    def close(self) -> None:
        """End what runs and remove the copies."""
        threads = [threading.Thread(target=each.end) for each in self.workshops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, workshop: Workshop) -> None:
        while True:
            try:
                mutant = self._waiting.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            try:
                outcome = workshop.try_out(mutant, self._tests(mutant))
            except (OSError, CatalogueError) as error:
                outcome = Outcome(verdict=Verdict.BROKEN, output=str(error))
            with self._lock:
                trial = Trial(mutant=mutant, outcome=outcome, seconds=time.monotonic() - began)
                self.trials.append(trial)
                self._screen.show(trial)

    def _tests(self, mutant: Mutant) -> list[str]:
        return [f"tests/unit/{mutant.program}"] if self._whole_unit else mutant.test.split()


def _last_lines(outcome: Outcome) -> list[str]:
    return outcome.output.splitlines()[-SHOWN_LINES:]


def report(trials: Sequence[Trial], left_off: Sequence[Mutant], *, seconds: float, shows_killers: bool) -> None:
    """Print the result for people."""
    by_verdict = {verdict: [trial for trial in trials if trial.outcome.verdict is verdict] for verdict in Verdict}
    print(f"\n{len(trials)} deliberate bugs in {seconds:.0f} s: {len(by_verdict[Verdict.KILLED])} noticed")
    if shows_killers:
        for trial in sorted(by_verdict[Verdict.KILLED], key=lambda trial: trial.mutant.name):
            print(f"  {trial.mutant.name}: {' '.join(trial.outcome.failed)}")
    for mutant in left_off:
        print(f"  not run: {mutant.name}: {mutant.equivalent}")
    for trial in by_verdict[Verdict.BROKEN]:
        print(f"\nBROKEN {trial.mutant.name} ({trial.mutant.file}): its tests could not run")
        print("\n".join(_last_lines(trial.outcome)))
    for trial in by_verdict[Verdict.SURVIVED]:
        print(f"\nSURVIVED {trial.mutant.name} ({trial.mutant.file})")
        print(f"  {trial.mutant.user}")
        print(f"  should be noticed by: {trial.mutant.test}")


def as_json(trials: Sequence[Trial], left_off: Sequence[Mutant], *, seconds: float) -> str:
    """The result as one object."""
    names = {verdict: sorted(t.mutant.name for t in trials if t.outcome.verdict is verdict) for verdict in Verdict}
    return json.dumps(
        {
            "name": "mutants",
            "mutants": len(trials),
            "killed": len(names[Verdict.KILLED]),
            "survived": names[Verdict.SURVIVED],
            "broken": names[Verdict.BROKEN],
            "equivalent": {mutant.name: mutant.equivalent for mutant in left_off},
            "seconds": round(seconds, 1),
        }
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="make mutants",
        description="Put each deliberate bug of tests/mutants into a copy of the tree, and run "
        "the test that should notice it.",
        epilog="With make: ARGS='--only lease'.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="mutants whose name, file or test contains this text; may be repeated (all)",
    )
    parser.add_argument("--processes", type=int, default=2, help="mutants at a time, each in a copy of the tree (2)")
    parser.add_argument("--list", action="store_true", help="print the mutants, and run nothing")
    parser.add_argument(
        "--whole-unit",
        action="store_true",
        help="run all unit tests of the program in place of the test that a mutant names, and print "
        "which one fails: to find the test to name",
    )
    parser.add_argument("--json", action="store_true", help="the result as one JSON object in the last line, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    flags = build_parser().parse_args(arguments)
    try:
        known = catalogue.read(CHECKOUT)
    except CatalogueError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = known.chosen(flags.only)
    if flags.list:
        for mutant in chosen:
            print(f"{mutant.name} ({mutant.file})\n  {mutant.user}\n  {mutant.test}")
        return 0
    if not chosen:
        print(f"no mutant matches {' or '.join(flags.only)}", file=sys.stderr)
        return 1
    began = time.monotonic()
    run = Run(chosen, processes=flags.processes, whole_unit=flags.whole_unit, screen=Screen(len(chosen)))
    try:
        wrong = run.check_without_bugs(chosen)
        if wrong:
            print(wrong, file=sys.stderr)
            return 2
        run.go()
    except KeyboardInterrupt:
        print("\nended; everything is cleaned up", file=sys.stderr)
        return 130
    finally:
        run.close()
    seconds, left_off = time.monotonic() - began, () if flags.only else known.equivalent()
    report(run.trials, left_off, seconds=seconds, shows_killers=flags.whole_unit)
    if flags.json:
        print(as_json(run.trials, left_off, seconds=seconds))
    return 0 if all(trial.outcome.verdict is Verdict.KILLED for trial in run.trials) else 1


if __name__ == "__main__":
    sys.exit(main())
