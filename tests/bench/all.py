"""Runs benchmarks one after the other and writes their figures as one page (`make bench`, `make bench-operator`).

Each one's last line is a JSON object; the tables are made of nothing else, so that no figure in them was written by
hand. A section is written when all of its benchmarks have run; the page's other sections stay as they are.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        environment: whose Python runs the benchmarks: .venv/<environment>.
        command: what writes this section.
        peers: whom ours is compared with, and what is counted.
    """

    title: str
    environment: str
    command: str
    peers: str
    benches: tuple[str, ...]


WORKER = Section(
    title="The worker library",
    environment="worker",
    command="make bench",
    peers="Beside bare Celery, redis-py's lock, celery-once and celery-singleton, each where it does the same; "
    "`probe` beside `celery inspect ping`, and `observability` beside the same worker with all of it left out.",
    benches=(
        "throughput",
        "wakeup",
        "lock-contended",
        "lock-uncontended",
        "kill-loss",
        "scale-down-loss",
        "redelivery",
        "debounce",
        "dedupe",
        "probe",
        "observability",
    ),
)
OPERATOR = Section(
    title="The operator",
    environment="operator",
    command="make bench-operator",
    peers="Beside a plain kopf operator in the usual style (`tests/bench/peers/plain_kopf_operator.py`); requests are "
    "counted in the API server's audit log. Autoscaling beside KEDA and the HorizontalPodAutoscaler on paper: their "
    "documented intervals, and models of them in the simulator.",
    benches=("operator-writes", "operator-scale", "operator-restart", "scale-latency", "scale-cost", "slo"),
)
SECTIONS = {each.environment: each for each in (WORKER, OPERATOR)}

HEAD = """# Benchmarks

Ours and the peer in turn in one run; a ratio above 1 means that ours is better. Absolute figures
differ from machine to machine. `make bench` and `make bench-operator` write this page, `make bench-NAME` runs one.
"""


def render(section: Section, results: Iterable[Mapping[str, Any]], *, machine: str, date: str) -> str:
    """A section: a line for each figure, those in the details of a benchmark below it."""
    rows = ["| what | ours | peer | ratio | unit |", "|---|---|---|---|---|"]
    for result in results:
        rows.append(_row(f"**{result['name']}**", result))
        for name, detail in result.get("details", {}).items():
            if isinstance(detail, Mapping) and isinstance(detail.get("ours"), (int, float)) and "peer" in detail:
                rows.append(_row(name, detail))
    head = f"## {section.title}\n{section.peers}\n`{section.command}` on {date}: {machine}.\n"
    return "\n".join([head, *rows]) + "\n"


def merge(page: str, section: Section, text: str) -> str:
    """The page with this section's new text, in the order of SECTIONS; what is not a section is written anew."""
    parts = {part.splitlines()[0]: f"## {part.strip()}\n" for part in page.split("\n## ")[1:]}
    parts[section.title] = text
    return "\n".join([HEAD, *(parts[each.title] for each in SECTIONS.values() if each.title in parts)])


def _row(name: str, figures: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        return "–" if value is None else str(value)

    return f"| {name} | " + " | ".join(shown(figures.get(it, "")) for it in ("ours", "peer", "ratio", "unit")) + " |"


def run(section: Section, name: str) -> dict[str, Any]:
    """Run one benchmark, its table passed on; the object of its last line."""
    script = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    python = ROOT / ".venv" / section.environment / "bin" / "python"
    print(f"--- {name}", file=sys.stderr, flush=True)
    done = subprocess.run([python, script], stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine() -> str:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--section", choices=SECTIONS, default=WORKER.environment)
    names = [name for section in SECTIONS.values() for name in section.benches]
    parser.add_argument("--only", action="append", choices=names, help="run these, and write no page")
    flags = parser.parse_args()
    section = SECTIONS[flags.section]
    unknown = sorted(set(flags.only or ()) - set(section.benches))
    if unknown:
        parser.error(f"--section {flags.section} has no {unknown[0]}")
    results = [run(section, name) for name in flags.only or section.benches]
    if not flags.only:
        text = render(section, results, machine=machine(), date=time.strftime("%Y-%m-%d"))
        PAGE.write_text(merge(PAGE.read_text() if PAGE.exists() else HEAD, section, text))


if __name__ == "__main__":
    main()
