"""How many writes does an operator send beyond those that are needed? Against a plain kopf operator.

Needed are: one for each owned object that differs, and two of the status (it is under way; it is done). Measured are
one pool's creation until it is ready, a change of its image, a change of its scale, and a minute in which nothing
happens to 200 pools. Pods are KWOK's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from operator_cluster import (
    Bench,
    Entry,
    Manifest,
    fewer_is_better,
    is_ready,
    open_bench,
    pool,
    pools,
    print_result,
    print_table,
    say,
    until,
    wanted,
)

STATUS_WRITES = 2
SETTLE_SECONDS = 15.0
"""After the pool is ready: for a writer that goes on writing, and the peer's timer, which comes every 10 s."""

REPLICAS = 2


@dataclass
class Side:
    """One operator's figures: for each step, each repeat's writes; and what they were."""

    namespace: str
    ours: bool
    writes: dict[str, list[int]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)


async def measure(bench: Bench, side: Side, repeat: int, needed: dict[str, int]) -> None:
    """One pool's life."""
    name = f"pool-{repeat}"
    path = pools(side.namespace, name)

    async def step(step_name: str, change: Callable[[], Awaitable[Manifest]], replicas: int) -> Manifest:
        bench.audit.skip()
        await change()

        async def ready() -> Manifest | None:
            there = await bench.request("GET", path)
            return there if is_ready(there, replicas) else None

        there: Manifest = await until("ready pool", ready)
        await asyncio.sleep(SETTLE_SECONDS)
        note(side, step_name, bench.audit.of(side.namespace))
        return there

    spec = {"replicas": REPLICAS, "sentry": {"dsn": "https://key@sentry.example/1"}}
    body = pool(side.namespace, name, **spec)
    created = await step("creation", lambda: bench.request("POST", pools(side.namespace), body), REPLICAS)
    changed = await step("image", lambda: bench.merge(path, {"spec": {"image": "shop:2"}}), REPLICAS)
    scaled = await step("scale", lambda: bench.merge(f"{path}/scale", {"spec": {"replicas": 3}}), 3)
    needed["creation"] = len(wanted(created)) + STATUS_WRITES
    needed["image"] = differing(created, changed) + STATUS_WRITES
    needed["scale"] = differing(changed, scaled) + STATUS_WRITES


def differing(before: Manifest, after: Manifest) -> int:
    """Owned objects that are others after a change of the pool."""
    return sum(1 for each in wanted(after) if each not in wanted(before))


def note(side: Side, step: str, entries: list[Entry]) -> None:
    writes = [each for each in entries if each.is_write()]
    side.writes.setdefault(step, []).append(len(writes))
    side.kinds.update(f"{step}: {each.verb} {each.resource}" for each in writes)


async def measure_idle(bench: Bench, side: Side, count: int, seconds: float) -> None:
    """Writes while nothing happens."""
    await bench.create(side.namespace, [f"idle-{number}" for number in range(count)])

    async def all_ready() -> bool:
        return all(is_ready(each, each["spec"]["replicas"]) for each in await bench.items(pools(side.namespace)))

    await until("ready pools", all_ready, every=1.0)
    await asyncio.sleep(SETTLE_SECONDS)
    bench.audit.skip()
    await asyncio.sleep(seconds)
    note(side, "idle", bench.audit.of(side.namespace))


async def run(flags: argparse.Namespace) -> None:
    needed = {"idle": 0}
    sides = [Side("ours", ours=True), Side("peer", ours=False)]
    async with open_bench(pods=True) as bench:
        for side in sides:
            await bench.namespace(side.namespace)
        for repeat in range(flags.repeats):
            for side in sides if repeat % 2 else sides[::-1]:
                say(f"repeat {repeat + 1} of {flags.repeats}: {side.namespace}")
                with bench.operator(side.namespace, ours=side.ours):
                    await measure(bench, side, repeat, needed)
        for side in sides:
            say(f"{flags.pools} idle pools: {side.namespace}")
            with bench.operator(side.namespace, ours=side.ours):
                await measure_idle(bench, side, flags.pools, flags.idle_seconds)
    report(sides, needed)


def excess(writes: list[int], needed: int) -> float:
    """The median of what each repeat wrote beyond the needed. A pool that is ready before anybody has written that it
    is under way saves a write, which does not offset one of another repeat."""
    return statistics.median(max(0, each - needed) for each in writes)


def report(sides: list[Side], needed: dict[str, int]) -> None:
    ours, peer = sides

    def shown(values: list[int]) -> str:
        return f"{statistics.median(values):g} ({min(values)}-{max(values)})"

    rows = [[step, needed[step], shown(ours.writes[step]), shown(peer.writes[step])] for step in ours.writes]
    print_table(["writes", "needed", "ours", "peer"], rows)
    beyond = {step: {side.namespace: excess(side.writes[step], needed[step]) for side in sides} for step in ours.writes}
    total = {side.namespace: sum(each[side.namespace] for each in beyond.values()) for side in sides}
    print_result(
        "operator-writes",
        ours=total["ours"],
        peer=total["peer"],
        ratio=fewer_is_better(total["ours"], total["peer"]),
        unit="writes beyond the needed ones",
        details={
            **{f"{step}: beyond {needed[step]} needed": {**each, "unit": "writes"} for step, each in beyond.items()},
            "writes": {side.namespace: side.writes for side in sides},
            "kinds": {side.namespace: dict(sorted(side.kinds.items())) for side in sides},
            "pods": "KWOK",
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pools", type=int, default=200, help="pools of the idle minute (200)")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
