"""A restart with thousands of unchanged pools: what does the operator write, and how soon does it work again?

Against a plain kopf operator with its own pools. `ready` is the moment at which it has applied a change that was made
while it was down. etcd and kube-apiserver alone: no controllers, no pods.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass

from operator_cluster import Bench, Entry, fewer_is_better, open_bench, pools, print_result, print_table, say
from operator_scale import applied, quiet

READY_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One restart: writes about unchanged pools; seconds to the Deployment of the changed one."""

    side: str
    writes: int
    ready_seconds: float


async def measure(bench: Bench, count: int, *, ours: bool) -> Figures:
    side = "ours" if ours else "peer"
    await bench.namespace(side)
    with bench.operator(side, ours=ours):
        bench.audit.skip()
        await bench.create(side, [f"pool-{number:05}" for number in range(count)])
        await applied(bench, [], side, count)
        await quiet(bench, [])
    changed = f"pool-{count - 1:05}"
    await bench.merge(pools(side, changed), {"spec": {"image": "shop:2"}})
    bench.audit.skip()
    began = time.time()
    with bench.operator(side, ours=ours):
        entries: list[Entry] = []
        await applied_to(bench, entries, side, changed)
        ready = max(each.answered for each in entries if each.name == changed and each.resource == "deployments")
        await quiet(bench, entries)
    others = [
        each
        for each in entries
        if each.namespace == side
        and each.is_write()
        and each.name != changed
        and not each.agent.startswith("celeriac-bench")
    ]
    return Figures(side=side, writes=len(others), ready_seconds=ready - began)


async def applied_to(bench: Bench, entries: list[Entry], namespace: str, name: str) -> None:
    """Wait until this pool's Deployment has been written."""
    while not any(each.name == name and each.resource == "deployments" and each.is_write() for each in entries):
        await asyncio.sleep(0.2)
        entries.extend(bench.audit.read())


async def run(flags: argparse.Namespace) -> None:
    found = []
    for ours in (False, True):
        say(f"{flags.pools} pools: {'ours' if ours else 'peer'}")
        async with open_bench(pods=False) as bench:
            found.append(await measure(bench, flags.pools, ours=ours))
    peer, mine = found
    rows = [[each.side, each.writes, f"{each.ready_seconds:.1f}"] for each in (mine, peer)]
    print_table(["side", "writes about unchanged pools", "seconds to be at work"], rows)
    print_result(
        "operator-restart",
        ours=mine.writes,
        peer=peer.writes,
        ratio=fewer_is_better(mine.writes, peer.writes),
        unit="writes",
        details={
            "pools": flags.pools,
            f"until a change made meanwhile is applied (limit {READY_SECONDS} s)": {
                "ours": round(mine.ready_seconds, 2),
                "peer": round(peer.ready_seconds, 2),
                "ratio": round(peer.ready_seconds / mine.ready_seconds, 2),
                "unit": "s",
            },
            "pods": "none: etcd and kube-apiserver alone",
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=2000)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
