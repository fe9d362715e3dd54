"""Runs benchmarks one after the other and writes their figures as one page (`make bench`, `make bench-operator`).

Each one's last line is a JSON object. The newest of each benchmark is kept in `docs/project/benchmarks.json`, and
the page is made of nothing else, so that no figure in it was written by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "project" / "benchmarks.md"
FIGURES = ROOT / "docs" / "project" / "benchmarks.json"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        environment: the Python that runs the benchmarks: .venv/<environment>.
        command: what writes this section.
        peers: what ours is compared with, and what is counted.
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
    peers="Compared with bare Celery, redis-py's lock, celery-once and celery-singleton, each for what it can do; "
    "`probe` with `celery inspect ping`, and `observability` with the same worker without any of it.",
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
    peers="Compared with a plain kopf operator in the usual style (`tests/bench/peers/plain_kopf_operator.py`); "
    "requests are counted in the API server's audit log. Autoscaling from zero is compared with KEDA with its "
    "defaults, else with the HorizontalPodAutoscaler's documented interval, and with models of both in the simulator.",
    benches=("operator-writes", "operator-scale", "operator-restart", "scale-latency", "scale-cost", "slo"),
)
SECTIONS = {each.environment: each for each in (WORKER, OPERATOR)}

HEAD = """# Benchmarks

Ours and the peer in turn in one run; a ratio above 1 means that ours is better. Absolute figures
differ from machine to machine. `make bench` and `make bench-operator` write this page, `make bench-NAME` runs one and
writes nothing, and `make bench ARGS="--only NAME"` renews one benchmark's lines.
"""


def render(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The page: for each section a line for each figure, those in the details of a benchmark below it.

    Args:
        figures: by benchmark, its `date`, its `machine` and its `result`, the JSON object of its last line.
    """
    parts = [HEAD]
    for section in SECTIONS.values():
        rows = [row for name in section.benches if name in figures for row in _rows(figures[name])]
        if rows:
            head = ["| what | ours | peer | ratio | unit | measured |", "|---|---|---|---|---|---|"]
            parts.append(
                "\n".join([f"## {section.title}", f"{section.peers} `{section.command}`.", "", *head, *rows, ""])
            )
    machines = sorted({f"{measured['machine']}" for measured in figures.values()})
    return "\n".join([*parts, f"Measured on: {'; '.join(machines)}.", ""])


def _rows(measured: Mapping[str, Any]) -> list[str]:
    result = measured["result"]
    rows = [_row(f"**{result['name']}**", result, measured["date"])]
    for name, detail in result.get("details", {}).items():
        if isinstance(detail, Mapping) and isinstance(detail.get("ours"), (int, float)) and "peer" in detail:
            rows.append(_row(name, detail, ""))
    return rows


def _row(name: str, figures: Mapping[str, Any], date: str) -> str:
    cells = [_shown(figures.get(it, "")) for it in ("ours", "peer", "ratio", "unit")]
    return f"| {name} | {' | '.join(cells)} | {date} |"


def _shown(value: Any) -> str:
    """Round to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return "–" if value is None else str(value)


def run(section: Section, name: str) -> dict[str, Any]:
    """Run one benchmark, its table passed on; the object of its last line."""
    script = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    python = ROOT / ".venv" / section.environment / "bin" / "python"
    print(f"--- {name}", file=sys.stderr, flush=True)
    done = subprocess.run([python, script], stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def record(name: str, result: Mapping[str, Any], *, machine: str, date: str) -> None:
    """Replace a benchmark's stored result, and rewrite the page."""
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures[name] = {"date": date, "machine": machine, "result": result}
    FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")
    PAGE.write_text(render(figures))


def machine() -> str:
    """Return the machine on which the figures were measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--section", choices=SECTIONS, default=WORKER.environment)
    names = [name for section in SECTIONS.values() for name in section.benches]
    parser.add_argument("--only", action="append", choices=names, help="run these, and renew their lines")
    flags = parser.parse_args()
    section = SECTIONS[flags.section]
    unknown = sorted(set(flags.only or ()) - set(section.benches))
    if unknown:
        parser.error(f"--section {flags.section} has no {unknown[0]}")
    for name in flags.only or section.benches:
        record(name, run(section, name), machine=machine(), date=time.strftime("%Y-%m-%d"))


if __name__ == "__main__":
    main()
