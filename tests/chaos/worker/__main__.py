"""The fault campaign, from the command line (`make chaos-worker`).

Three parts: tasks under faults of workers, of Redis and of clocks; failovers of a Redis behind Sentinel; and a lock
that clients fight for. The report says what was done, what came of it, why a task ran more than once, and which
promises were broken; the exit code is 1 if any was. Ctrl-C ends everything that was started.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.worker import failover
from tests.chaos.worker.campaign import Campaign, Settings
from tests.chaos.worker.judgement import Verdict
from tests.chaos.worker.lock import campaign as lock_campaign


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_tasks(directory: Path, settings: Settings) -> Verdict:
    """The campaign of tasks; whatever happens, nothing that it started is left."""
    campaign = Campaign(directory, settings, progress)
    try:
        return campaign.run()
    finally:
        campaign.clean_up()


def _parts(directory: Path, flags: argparse.Namespace) -> Iterator[tuple[str, Verdict]]:
    """Carry out one part after the other; what each has found."""
    seconds = flags.minutes * 60
    settings = Settings(seed=flags.seed, tasks=flags.tasks, seconds=seconds * 0.6)
    failovers = max(2, round(seconds * 0.25 / failover.CYCLE_SECONDS))
    for name, run in (
        ("tasks", lambda: run_tasks(directory / "tasks", settings)),
        (
            "failovers",
            lambda: failover.run(directory / "failovers", seed=flags.seed, failovers=failovers, progress=progress),
        ),
        (
            "lock",
            lambda: lock_campaign.run(directory / "lock", seed=flags.seed, seconds=seconds * 0.15, progress=progress),
        ),
    ):
        verdict = run()
        progress(f"{name}: {len(verdict.violations)} broken promises")
        yield name, verdict


def show(title: str, verdict: Verdict) -> None:
    print(f"\n{title}")
    for name, count in verdict.counts.items():
        print(f"  {count:7d}  {name}")
    for explanation in verdict.explanations:
        print(f"  repeated: {explanation}")
    for violation in verdict.violations:
        print(f"  BROKEN   {violation}")


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.worker", description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="of the plan (default: by the clock)")
    parser.add_argument("--tasks", type=int, default=2500, help="sent in all (default: 2500)")
    parser.add_argument("--minutes", type=float, default=4, help="of faults, 60 %% of them for the tasks (default: 4)")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    flags = build_parser().parse_args(arguments)
    progress(f"seed {flags.seed}")
    directory = Path(tempfile.mkdtemp(prefix="celeriac-chaos-"))
    for name in ("tasks", "failovers", "lock"):
        (directory / name).mkdir()
    try:
        verdicts = dict(_parts(directory, flags))
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    except BaseException:
        progress(f"journals and logs: {directory}")
        raise
    broken = sum(len(it.violations) for it in verdicts.values())
    if flags.json:
        found = {name: dataclasses.asdict(it) for name, it in verdicts.items()}
        print(json.dumps({"seed": flags.seed, "violations": broken, **found}))
    else:
        for name, verdict in verdicts.items():
            show(f"{name}, seed {flags.seed}", verdict)
        print(f"\n{broken} broken promises" if broken else "\nevery promise was kept")
    if broken:
        progress(f"journals and logs: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
