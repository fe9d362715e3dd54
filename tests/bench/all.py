"""Runs benchmarks one after the other and writes their figures as one table (`make bench`).

Each one's last line is a JSON object; the table is made of nothing else, so that no figure in it was written by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BENCHES = (
    "throughput",
    "wakeup",
    "lock-contended",
    "lock-uncontended",
    "kill-loss",
    "redelivery",
    "debounce",
    "dedupe",
)
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def render(results: Iterable[Mapping[str, Any]], *, machine: str, date: str) -> str:
    """The page: a line for each figure, those in the details of a benchmark below it."""
    rows = ["| what | ours | peer | ratio | unit |", "|---|---|---|---|---|"]
    for result in results:
        rows.append(_row(f"**{result['name']}**", result))
        for name, detail in result.get("details", {}).items():
            if isinstance(detail, Mapping) and {"ours", "peer"} <= set(detail):
                rows.append(_row(name, {"ratio": "", "unit": "", **detail}))
    head = (
        "# Benchmarks\n\nOurs and the peer in turn in one run; a ratio above 1 means that ours is better. Absolute "
        f"figures differ from machine to machine.\nMeasured on {date}: {machine}.\n`make bench` runs all of them and "
        "writes this page, `make bench-NAME` runs one.\n"
    )
    return "\n".join([head, *rows]) + "\n"


def _row(name: str, figures: Mapping[str, Any]) -> str:
    return f"| {name} | " + " | ".join(str(figures[it]) for it in ("ours", "peer", "ratio", "unit")) + " |"


def run(name: str) -> dict[str, Any]:
    """Run one benchmark, its table passed on; the object of its last line."""
    script = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    print(f"--- {name}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=BENCHES)
    flags = parser.parse_args()
    results = [run(name) for name in flags.only or BENCHES]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    PAGE.write_text(render(results, machine=machine, date=time.strftime("%Y-%m-%d")))


if __name__ == "__main__":
    main()
