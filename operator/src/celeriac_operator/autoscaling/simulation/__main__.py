"""How would an autoscaling target behave under a load?

The command `python -m celeriac_operator.autoscaling.simulation`. It reads at most one file, writes at most one, and
uses no network. Exit codes: 0, and 2 with one sentence on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celeriac_operator.autoscaling.policy import BacklogPerReplica, BusySlots, Latency, Spec, Target
from celeriac_operator.autoscaling.simulation import arrivals, picture, rivals, run

SAMPLES = 400
"""Points of each curve in the picture."""

EXAMPLES = """examples:
  simulate --shape burst --backlog-per-replica 20 --svg burst.svg
  simulate --shape day --latency-seconds 5 --max 20 --service-seconds 3
  simulate --trace tasks.csv --busy-slots-percent 80 --json

a trace is CSV: the column `at` (seconds from the start) and, if known, `seconds` (the task's runtime)
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simulate", description=__doc__.splitlines()[0] if __doc__ else None, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    load = parser.add_argument_group("load").add_mutually_exclusive_group()
    shapes = "; ".join(f"{name}: {shape.meaning}" for name, shape in arrivals.SHAPES.items())
    load.add_argument("--shape", choices=arrivals.SHAPES, default="burst", help=f"{shapes} (default burst)")
    load.add_argument("--trace", type=Path, metavar="FILE", help="a CSV file with tasks")
    target = parser.add_argument_group("target (default: a backlog of 20)").add_mutually_exclusive_group()
    target.add_argument("--backlog-per-replica", type=int, metavar="N", help="messages for each worker")
    target.add_argument("--latency-seconds", type=float, metavar="S", help="seconds that a message may wait")
    target.add_argument("--busy-slots-percent", type=int, metavar="P", help="percentage of slots in use")
    pool = parser.add_argument_group("pool and tasks")
    pool.add_argument("--min", type=int, default=0, metavar="N", help="minimum of workers (default 0)")
    pool.add_argument("--max", type=int, default=40, metavar="N", help="maximum of workers (default 40)")
    pool.add_argument("--slots", type=int, default=4, metavar="N", help="slots of a worker (default 4)")
    pool.add_argument("--stabilization-seconds", type=float, default=60, metavar="S", help="window (default 60)")
    pool.add_argument("--start-seconds", type=float, default=5, metavar="S", help="start of a worker (default 5)")
    pool.add_argument("--service-seconds", type=float, default=1, metavar="S", help="mean runtime (default 1)")
    pool.add_argument(
        "--runtimes",
        choices=arrivals.RUNTIMES,
        default="exponential",
        help="distribution of runtimes (default exponential)",
    )
    pool.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    out = parser.add_argument_group("result")
    out.add_argument("--within", type=float, metavar="S", help="count tasks that start within S seconds (default 5)")
    out.add_argument("--tail-seconds", type=float, default=600, metavar="S", help="after the last task (default 600)")
    out.add_argument("--svg", type=Path, metavar="FILE", help="write a picture")
    out.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def simulate(asked: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return the results of every policy, and the picture.

    Raises:
        ValueError: an argument is out of range.
        OSError: the trace cannot be read.
        arrivals.UnusableTraceError: the file is not a trace.
    """
    for name in ("service_seconds", "tail_seconds"):
        if not getattr(asked, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0")
    if asked.start_seconds < 0:
        raise ValueError("--start-seconds cannot be negative")
    spec = Spec(
        min_replicas=asked.min, max_replicas=asked.max, target=_target(asked), slots=asked.slots,
        stabilization_seconds=asked.stabilization_seconds,
    )  # fmt: skip
    tasks = _tasks(asked)
    seconds = tasks[-1].at + asked.tail_seconds
    world = run.World(slots=asked.slots, start_seconds=asked.start_seconds, replicas=asked.min)
    runs = {
        scaling_policy.name: run.run(tasks, scaling_policy, world, seconds=seconds, sample_seconds=seconds / SAMPLES)
        for scaling_policy in _policies(spec, asked.service_seconds)
    }
    within = asked.within if asked.within is not None else asked.latency_seconds or 5.0
    load = asked.trace.name if asked.trace else asked.shape
    result = {
        "load": load, "seed": asked.seed, "tasks": len(tasks), "within_seconds": within,
        "policies": {name: _summarize(finished, within) for name, finished in runs.items()},
    }  # fmt: skip
    target = f"{_words(spec.target)}, at most {spec.max_replicas} replicas"
    title = f"Simulated {load}: {len(tasks)} tasks, seed {asked.seed}, {target}"
    return result, picture.draw(title, runs, seconds=seconds, max_replicas=spec.max_replicas)


def _target(asked: argparse.Namespace) -> Target:
    if asked.latency_seconds is not None:
        return Latency(seconds=asked.latency_seconds)
    if asked.busy_slots_percent is not None:
        return BusySlots(percent=asked.busy_slots_percent)
    return BacklogPerReplica(messages=20 if asked.backlog_per_replica is None else asked.backlog_per_replica)


def _words(target: Target) -> str:
    match target:
        case BacklogPerReplica(messages=messages):
            return f"backlogPerReplica {messages}"
        case Latency(seconds=seconds):
            return f"latencySeconds {seconds:g}"
        case BusySlots(percent=percent):
            return f"busySlotsPercent {percent}"


def _tasks(asked: argparse.Namespace) -> list[arrivals.Task]:
    how: dict[str, Any] = {"seed": asked.seed, "mean_seconds": asked.service_seconds, "runtimes": asked.runtimes}
    if asked.trace is None:
        return arrivals.build(arrivals.SHAPES[asked.shape], **how)
    with asked.trace.open(newline="", encoding="utf-8") as lines:
        return arrivals.parse(lines, **how)


def _policies(spec: Spec, mean_seconds: float) -> list[run.ScalingPolicy]:
    return [rivals.Celeriac(spec), rivals.KedaLike(spec, mean_seconds), rivals.CpuLike(spec)]


def _summarize(finished: run.Run, within: float) -> dict[str, Any]:
    return {
        "share_within": round(finished.share_within(within), 4),
        "wait_p50_seconds": round(finished.wait_at(0.5), 2),
        "wait_p99_seconds": round(finished.wait_at(0.99), 2),
        "most_replicas": max(sample.replicas for sample in finished.samples),
        "replica_hours": round(finished.replica_hours, 3),
        "done": finished.done,
        "waiting": finished.waiting,
        "running": finished.running,
    }


def _table(result: dict[str, Any]) -> str:
    within = f"in {result['within_seconds']:g} s"
    lines = [
        f"{result['load']}: {result['tasks']} tasks, seed {result['seed']}",
        f"{'policy':<14}{within:>10}{'p50 wait':>11}{'p99 wait':>11}{'most':>6}{'replica-hours':>15}{'unfinished':>12}",
    ]
    for name, summary in result["policies"].items():
        median, high = summary["wait_p50_seconds"], summary["wait_p99_seconds"]
        unfinished = summary["waiting"] + summary["running"]
        lines.append(
            f"{name:<14}{summary['share_within']:>10.1%}{median:>9.1f} s{high:>9.1f} s"
            f"{summary['most_replicas']:>6}{summary['replica_hours']:>15.2f}{unfinished:>12}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = build_parser().parse_args(arguments)
    try:
        result, drawn = simulate(asked)
        if asked.svg:
            asked.svg.write_text(drawn, encoding="utf-8")
    except (ValueError, OSError, arrivals.UnusableTraceError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result) if asked.json else _table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
