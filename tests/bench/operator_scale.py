"""Thousands of pools: how fast are their Deployments created, how soon is a change applied, what does a pool cost?

Ours at 500, 2,000 and 5,000 pools, the plain kopf operator at 500 beside ours at 500. The clock runs from the first
pool's creation, which the operator follows while it goes on, to the last Deployment's. etcd and kube-apiserver alone:
no controllers, no pods.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from operator_cluster import Bench, Entry, Operator, open_bench, pools, print_result, print_table, say, until

CHANGES = 200
PAUSE_SECONDS = 0.05
"""Between two changes: a busy day, not a storm."""

MAIN = 2000


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one operator at one number of pools."""

    side: str
    pools: int
    pools_a_second: float
    change_p50_seconds: float
    change_p99_seconds: float
    memory_mib: float
    empty_mib: float

    def kib_a_pool(self) -> float:
        return (self.memory_mib - self.empty_mib) * 1024 / self.pools


async def measure(bench: Bench, count: int, *, ours: bool) -> Figures:
    """Create `count` pools while an operator runs, then change some of them."""
    side = "ours" if ours else "peer"
    namespace = f"{side}-{count}"
    await bench.namespace(namespace)
    with bench.operator(namespace, ours=ours) as operator:
        bench.audit.skip()
        await started(bench, operator, namespace)
        empty = operator.resident_mib()
        bench.audit.skip()
        await bench.create(namespace, [f"pool-{number:05}" for number in range(count)])
        entries: list[Entry] = []
        await applied(bench, entries, namespace, count)
        first = min(each.received for each in entries if each.resource == "celeryworkerpools" and each.verb == "create")
        last = max(each.answered for each in entries if is_apply(each))
        await quiet(bench, entries)
        memory = operator.resident_mib()
        delays = sorted(await change_some(bench, namespace, count))
    return Figures(
        side=side,
        pools=count,
        pools_a_second=count / (last - first),
        change_p50_seconds=statistics.median(delays),
        change_p99_seconds=delays[int(len(delays) * 0.99) - 1],
        memory_mib=memory,
        empty_mib=empty,
    )


async def started(bench: Bench, operator: Operator, namespace: str) -> None:
    """Wait until the operator has reconciled a first pool, which is deleted again."""
    await bench.create(namespace, ["first"])
    entries: list[Entry] = []
    await applied(bench, entries, namespace, 1)
    await bench.request("DELETE", pools(namespace, "first"))
    await bench.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/first")
    await quiet(bench, entries)
    assert operator.process.poll() is None


def is_apply(entry: Entry) -> bool:
    return entry.resource == "deployments" and entry.verb in ("patch", "create") and entry.code < 300


async def applied(bench: Bench, entries: list[Entry], namespace: str, count: int) -> None:
    """Wait until `count` Deployments have been written."""
    names: set[str] = set()

    async def look() -> bool:
        fresh = [each for each in bench.audit.read() if each.namespace == namespace]
        entries.extend(fresh)
        names.update(each.name for each in fresh if is_apply(each))
        return len(names) >= count

    await until(f"{count} Deployments", look, every=0.2)


async def quiet(bench: Bench, entries: list[Entry]) -> None:
    """Wait until there was no write for two seconds."""
    silent = 0

    async def look() -> bool:
        nonlocal silent
        fresh = [each for each in bench.audit.read() if each.is_write()]
        entries.extend(fresh)
        silent = 0 if fresh else silent + 1
        return silent >= 10

    await until("rest", look, every=0.2)


async def change_some(bench: Bench, namespace: str, count: int) -> list[float]:
    """Seconds from the acceptance of a change to the Deployment that has it."""
    numbers = random.Random(count).sample(range(count), min(CHANGES, count))  # noqa: S311 -- which pools
    bench.audit.skip()
    for number in numbers:
        await bench.merge(pools(namespace, f"pool-{number:05}"), {"spec": {"image": "shop:2"}})
        await asyncio.sleep(PAUSE_SECONDS)
    entries: list[Entry] = []
    await applied(bench, entries, namespace, len(numbers))
    changed = {
        each.name: each.answered
        for each in entries
        if each.resource == "celeryworkerpools" and each.verb == "patch" and each.agent.startswith("celeriac-bench")
    }
    done = {each.name: each.answered for each in reversed(entries) if is_apply(each)}
    return [done[name] - changed[name] for name in changed]


async def run(flags: argparse.Namespace) -> None:
    found: list[Figures] = []
    for ours, count in [(False, flags.peer), (True, flags.peer), *((True, each) for each in flags.pools)]:
        if any(each.side == "ours" and ours and each.pools == count for each in found):
            continue
        say(f"{count} pools: {'ours' if ours else 'peer'}")
        # A fresh control plane each: an API server that has seen thousands of objects is slower.
        async with open_bench(pods=False) as bench:
            found.append(await measure(bench, count, ours=ours))
    report(found, flags.peer)


def report(found: list[Figures], common: int) -> None:
    rows = [
        [
            each.side,
            each.pools,
            f"{each.pools_a_second:.0f}",
            f"{each.change_p50_seconds * 1000:.0f}",
            f"{each.change_p99_seconds * 1000:.0f}",
            f"{each.memory_mib:.0f}",
            f"{each.kib_a_pool():.0f}",
        ]
        for each in found
    ]
    print_table(["side", "pools", "pools/s", "change p50 ms", "change p99 ms", "MiB", "KiB/pool"], rows)
    ours, theirs = ({each.pools: each for each in found if each.side == side} for side in ("ours", "peer"))
    main = ours.get(MAIN) or ours[max(ours)]
    most, least = ours[max(ours)], ours[min(ours)]
    print_result(
        "operator-scale",
        ours=main.pools_a_second,
        peer=theirs[common].pools_a_second,
        ratio=ours[common].pools_a_second / theirs[common].pools_a_second,
        unit=f"pools/s to created Deployments: ours at {main.pools}, the peer and the ratio at {common}",
        details={
            **{
                f"{what} at {count} pools": line
                for count in ours
                for what, line in compared(ours[count], theirs.get(count))
            },
            "slowdown_from_least_to_most": round(least.pools_a_second / most.pools_a_second, 2),
            "all": [asdict(each) for each in found],
            "pods": "none: etcd and kube-apiserver alone",
        },
    )


def compared(ours: Figures, peer: Figures | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is compared at one size; the peer may not have been measured there."""
    figures: tuple[tuple[str, str, Callable[[Figures], float], bool], ...] = (
        ("creation", "pools/s", lambda side: side.pools_a_second, False),
        ("99th percentile from a change to its Deployment", "ms", lambda side: side.change_p99_seconds * 1000, True),
        ("memory for each pool", "KiB", Figures.kib_a_pool, True),
    )
    for what, unit, read, less_is_better in figures:
        mine, other = read(ours), None if peer is None else read(peer)
        ratio = None if other is None else other / mine if less_is_better else mine / other
        rounded = [None if each is None else round(each, 2) for each in (mine, other, ratio)]
        yield what, dict(zip(("ours", "peer", "ratio"), rounded, strict=True), unit=unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, nargs="+", default=[500, MAIN, 5000])
    parser.add_argument("--peer", type=int, default=500, help="the size that both get (500)")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
