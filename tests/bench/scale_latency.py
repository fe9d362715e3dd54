"""How long from a message's arrival to the Deployment with the workers that it needs, among 1,000 pools on one Redis?

The clock runs from just before the first message is sent to the API server's answer to the write of the Deployment's
replicas, by its audit log: noticing, deciding, the pool's scale subresource, the pass and its write. etcd and
kube-apiserver alone: no controllers, no pods.

The peer is on paper: what KEDA's documented defaults allow. It looks at a queue every 30 s while there is no worker
(`pollingInterval`), and the HorizontalPodAutoscaler that it makes looks every 15 s (`--horizontal-pod-autoscaler-sync-
period`) while there is one. A message that comes at any moment waits half of that in the median and 99 % of it at the
99th percentile, all else taking no time at all.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from typing import Any

from operator_cluster import Entry, print_result, print_table, say, until
from operator_scale import is_apply, quiet
from scaled import NAMESPACE, PER_REPLICA, Place, a_place

KEDA_POLL_SECONDS = 30.0
HPA_SYNC_SECONDS = 15.0
PAUSE_SECONDS = 0.05


async def delays(place: Place, names: list[str], messages: int, *, chance: random.Random) -> list[float]:
    """Send so many messages to each pool's queue, one pool after the other; seconds to each pool's Deployment."""
    place.bench.audit.skip()
    sent: dict[str, float] = {}
    for name in names:
        sent[name] = time.time()
        place.redis.lpush(name, *["x"] * messages)
        await asyncio.sleep(PAUSE_SECONDS * 2 * chance.random())
    written: dict[str, Entry] = {}

    async def look() -> bool:
        for each in place.bench.audit.read():
            if each.namespace == NAMESPACE and is_apply(each) and each.name in sent:
                written.setdefault(each.name, each)
        return len(written) == len(sent)

    await until("the Deployments", look, every=0.2)
    await quiet(place.bench, [])
    return sorted(written[name].answered - sent[name] for name in names)


def line(name: str, found: list[float], peer_seconds: float) -> dict[str, Any]:
    """The figures of one kind, in milliseconds."""
    rows = {}
    for share, shown in ((0.5, "median"), (0.99, "99th percentile")):
        ours = statistics.median(found) if share == 0.5 else found[int(len(found) * share) - 1]
        peer = peer_seconds * share
        rows[f"{name}, {shown}"] = {
            "ours": round(ours * 1000, 1),
            "peer": round(peer * 1000),
            "ratio": round(peer / ours, 1),
            "unit": "ms",
        }
    return rows


async def run(flags: argparse.Namespace) -> None:
    chance = random.Random(flags.seed)  # noqa: S311 -- which pools, and when
    async with a_place(flags.pools) as place:
        say(f"{flags.pools} pools are at rest")
        names = chance.sample(place.names, min(flags.samples, flags.pools))
        # One message: one worker. Then ten times as many as a worker is to have: eleven.
        from_zero = await delays(place, names, 1, chance=chance)
        more = await delays(place, names, PER_REPLICA * 10, chance=chance)
        # All at once: a round of many decisions.
        place.bench.audit.skip()
        storm = await delays_of_all(place, [name for name in place.names if name not in set(names)])
    details = {
        **line("from zero", from_zero, KEDA_POLL_SECONDS),
        **line("from one to eleven", more, HPA_SYNC_SECONDS),
    }
    rows = [[name, *(each[it] for it in ("ours", "peer", "ratio"))] for name, each in details.items()]
    print_table(["what", "ours ms", "peer ms", "ratio"], rows)
    ours = statistics.median(from_zero)
    print_result(
        "scale-latency",
        ours=ours * 1000,
        peer=KEDA_POLL_SECONDS / 2 * 1000,
        ratio=KEDA_POLL_SECONDS / 2 / ours,
        unit=f"ms from the first message to the Deployment's replicas, median, {flags.pools} pools on one Redis",
        details={
            **details,
            "seconds_until_the_last_of_all_other_pools_left_zero_at_once": round(storm, 2),
            "other_pools": flags.pools - len(names),
            "peer": f"on paper: KEDA polls every {KEDA_POLL_SECONDS:.0f} s, the HPA every {HPA_SYNC_SECONDS:.0f} s, "
            "and nothing else takes time",
            "samples": len(names),
            "seed": flags.seed,
        },
    )


async def delays_of_all(place: Place, names: list[str]) -> float:
    """One message to each of these queues at once; seconds until the last Deployment."""
    if not names:
        return 0.0
    began = time.time()
    with place.redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.lpush(name, "x")
        pipeline.execute()
    waiting, last = set(names), began

    async def look() -> bool:
        nonlocal last
        for each in place.bench.audit.read():
            if each.namespace == NAMESPACE and is_apply(each) and each.name in waiting:
                waiting.discard(each.name)
                last = max(last, each.answered)
        return not waiting

    await until("the Deployments of all", look, every=0.2)
    return last - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
