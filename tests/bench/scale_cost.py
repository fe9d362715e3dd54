"""What do 1,000 idle pools with autoscaling cost, compared with the same pools without it?

The operator's CPU time and Redis' commands over a minute in which nothing happens. Commands are those that Redis
counts, those inside of scripts included; the calls are what goes over the wire, in one write a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from operator_cluster import print_result, print_table, say
from scaled import Place, a_place

SETTLE_SECONDS = 5.0
KEDA_POLL_SECONDS = 30.0
HPA_SYNC_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A minute's cost, for each second."""

    operator_cpu_percent: float
    redis_cpu_percent: float
    calls: float
    commands: float
    api_writes: int


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def redis_calls(place: Place) -> tuple[float, float, float]:
    """Scripts called, commands run, CPU seconds used."""
    calls = place.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    cpu = place.redis.info("cpu")
    used = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
    return float(calls), float(place.redis.info("stats")["total_commands_processed"]), float(used)


async def measure(place: Place, seconds: float) -> Cost:
    """Measure a minute in which nothing happens."""
    await asyncio.sleep(SETTLE_SECONDS)
    place.bench.audit.skip()
    before, cpu = redis_calls(place), cpu_seconds(place.operator.process.pid)
    await asyncio.sleep(seconds)
    after = redis_calls(place)
    calls, commands, redis_cpu = (new - old for new, old in zip(after, before, strict=True))
    return Cost(
        operator_cpu_percent=(cpu_seconds(place.operator.process.pid) - cpu) / seconds * 100,
        redis_cpu_percent=redis_cpu / seconds * 100,
        calls=calls / seconds,
        commands=commands / seconds,
        api_writes=sum(each.is_write() for each in place.bench.audit.read()),
    )


async def run(flags: argparse.Namespace) -> None:
    found = {}
    for side, scaled in (("with autoscaling", True), ("without", False)):
        say(f"{flags.pools} pools {side}")
        async with a_place(flags.pools, scaled=scaled) as place:
            found[side] = await measure(place, flags.seconds)
    rows = [
        [
            side,
            f"{each.operator_cpu_percent:.1f}",
            f"{each.redis_cpu_percent:.1f}",
            f"{each.calls:.0f}",
            f"{each.commands:.0f}",
            each.api_writes,
        ]
        for side, each in found.items()
    ]
    print_table(["side", "operator CPU %", "Redis CPU %", "calls/s", "commands/s", "API writes"], rows)
    ours, without = found["with autoscaling"], found["without"]
    added = ours.operator_cpu_percent - without.operator_cpu_percent
    print_result(
        "scale-cost",
        ours=ours.operator_cpu_percent,
        peer=without.operator_cpu_percent,
        ratio=without.operator_cpu_percent / ours.operator_cpu_percent,
        unit=f"% of one core, operator with {flags.pools} idle pools; the peer is the same without autoscaling",
        details={
            "operator_cpu_percent_added": round(added, 2),
            "redis_cpu_percent": round(ours.redis_cpu_percent, 2),
            "redis_calls_a_second": round(ours.calls, 1),
            "redis_commands_a_second": round(ours.commands, 1),
            "api_writes_while_idle": ours.api_writes,
            "keda_calls_a_second_on_paper": round(flags.pools / KEDA_POLL_SECONDS + flags.pools / HPA_SYNC_SECONDS, 1),
            "keda": f"on paper: one call for each pool every {KEDA_POLL_SECONDS:.0f} s by KEDA, and every "
            f"{HPA_SYNC_SECONDS:.0f} s by the HPA; ours looks at each pool every 0.8 s",
            "seconds": flags.seconds,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
