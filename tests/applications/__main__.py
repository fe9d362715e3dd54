"""`make test-applications`: applications that exist run on stock Celery and on Celeriac, with the same steps.

Each application has a Python environment of its own under .venv/applications, from a lock with hashes. Its worker runs
twice, by `celery worker` and by the injected library, each time with fresh servers. The table compares the outcomes of
all steps; the last line of the output is one JSON object. Exit code 1 when an outcome differs and no page says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.applications import catalogue
from tests.applications.comparison import FAILED, Row, Step, Verdict, compare, table
from tests.applications.place import (
    HERE,
    Place,
    Postgres,
    Side,
    become_subreaper,
    end_everything,
    inject,
    interpreter,
    say,
)
from tests.environments import python_of
from tests.integration.worker.processes import RedisServer


def run_side(
    application: catalogue.Application, side: Side, *, volume: Path, postgres: Postgres, root: Path
) -> list[Step]:
    """Run all steps of an application on one side, with servers and a folder of its own."""
    directory = root / f"{application.name}-{side}"
    (directory / "redis").mkdir(parents=True)
    (directory / "work").mkdir()
    redis = RedisServer(directory / "redis", appendonly="no").start()
    place = Place(
        side=side,
        python=interpreter(application.environment),
        volume=volume,
        directory=directory / "work",
        redis=redis,
        database=postgres.create(f"{application.name}-{side}") if application.needs_postgres else "",
    )
    steps: list[Step] = []
    began = time.monotonic()
    try:
        for name, outcome in application.steps(place):
            steps.append(Step(name=name, outcome=outcome, seconds=time.monotonic() - began))
            say(f"  {side}: {name}: {outcome} ({steps[-1].seconds:.1f} s)")
            began = time.monotonic()
    except (AssertionError, subprocess.SubprocessError, OSError) as error:
        say(f"  {side}: the steps ended early: {error}")
        steps.append(Step(name="end", outcome=FAILED, seconds=time.monotonic() - began))
    else:
        steps.append(Step(name="end", outcome="all steps done", seconds=time.monotonic() - began))
    finally:
        end_everything(spare=postgres.process)
    return steps


def run_all(chosen: list[catalogue.Application], *, root: Path) -> tuple[list[Row], dict[str, str]]:
    """The rows of all applications, and those that were left out with the reason."""
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    volume = inject(root)
    postgres = Postgres(root / "postgres")
    for application in chosen:
        say(f"{application.name}: {application.summary}")
        lock = HERE / "requirements" / f"{application.environment}.lock"
        try:
            python_of(f"applications/{application.environment}", lock)
        except subprocess.CalledProcessError as error:
            left_out[application.name] = "its packages could not be installed here"
            say(f"  left out: {error}")
            continue
        if application.needs_postgres and postgres.process is None:
            postgres.start()
        sides = {
            side: run_side(application, side, volume=volume, postgres=postgres, root=root)
            for side in (Side.STOCK, Side.OURS)
        }
        rows += compare(application.name, sides[Side.STOCK], sides[Side.OURS], application.different)
    return rows, left_out


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-applications", description=(__doc__ or "").splitlines()[0])
    names = [it.name for it in catalogue.APPLICATIONS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_subreaper()
    root = Path(tempfile.mkdtemp(prefix="celeriac-applications-"))
    os.chmod(root, 0o755)  # noqa: PTH101, S103 - PostgreSQL runs as a user of its own below it
    try:
        chosen = [it for it in catalogue.APPLICATIONS if flags.only is None or it.name in flags.only]
        rows, left_out = run_all(chosen, root=root)
    except KeyboardInterrupt:
        say("interrupted: everything that was started is ended")
        return 130
    finally:
        end_everything()
        if flags.keep:
            say(f"logs: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    if not flags.json:
        print(table(rows))
        for name, reason in left_out.items():
            print(f"left out: {name}: {reason}")
    faults = [f"{it.application}: {it.step}" for it in rows if it.verdict is Verdict.FAULT]
    print(json.dumps({"faults": faults, "leftOut": left_out, "rows": [asdict(it) for it in rows]}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
