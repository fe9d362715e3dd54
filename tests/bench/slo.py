"""A day of work in the simulator: how many tasks start in time, and how many hours of workers does that take?

The same tasks for three policies: ours, and models of KEDA and of a HorizontalPodAutoscaler on CPU by their documented
defaults; docs/operations/autoscaling.md says what the simulator leaves out. A day is a quiet night, office
hours and two mailings. Nothing is measured: every run of a seed has the same figures.
"""

from __future__ import annotations

import argparse
from typing import Any

from operator_cluster import print_result, print_table

from celeriac_operator.autoscaling.simulation import __main__

WITHIN_SECONDS = 5
TARGETS = {
    "latencySeconds 5": ["--latency-seconds", str(WITHIN_SECONDS)],
    "backlogPerReplica 20": ["--backlog-per-replica", "20"],
    "busySlotsPercent 80": ["--busy-slots-percent", "80"],
}
MAIN = "latencySeconds 5"


def day(target: list[str], flags: argparse.Namespace) -> dict[str, Any]:
    """The figures of every policy for this target."""
    arguments = [
        *("--shape", "day", "--seed", str(flags.seed), "--max", str(flags.max)),
        *("--service-seconds", str(flags.service_seconds), "--within", str(WITHIN_SECONDS)),
        *target,
    ]
    result, _ = __main__.simulate(__main__.build_parser().parse_args(arguments))
    found: dict[str, Any] = result["policies"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max", type=int, default=20)
    parser.add_argument("--service-seconds", type=float, default=3)
    flags = parser.parse_args()
    found = {name: day(target, flags) for name, target in TARGETS.items()}
    rows = [
        [target, policy, f"{each['share_within']:.1%}", each["wait_p99_seconds"], each["replica_hours"]]
        for target, policies in found.items()
        for policy, each in policies.items()
    ]
    print_table(["target", "policy", f"in {WITHIN_SECONDS} s", "p99 wait s", "replica-hours"], rows)
    ours, keda = found[MAIN]["celeriac"], found[MAIN]["keda-like"]
    details: dict[str, Any] = {
        "replica-hours of the same day": {
            "ours": ours["replica_hours"],
            "peer": keda["replica_hours"],
            "ratio": round(keda["replica_hours"] / ours["replica_hours"], 2),
            "unit": "hours",
        },
        "99th percentile of the wait": {
            "ours": ours["wait_p99_seconds"],
            "peer": keda["wait_p99_seconds"],
            "ratio": round(keda["wait_p99_seconds"] / max(ours["wait_p99_seconds"], 0.01), 2),
            "unit": "s",
        },
        "targets": found,
        "seed": flags.seed,
    }
    print_result(
        "slo",
        ours=ours["share_within"],
        peer=keda["share_within"],
        ratio=ours["share_within"] / max(keda["share_within"], 0.0001),
        unit=f"share of a day's tasks that start within {WITHIN_SECONDS} s, against a model of KEDA; {MAIN}",
        details=details,
    )


if __name__ == "__main__":
    main()
