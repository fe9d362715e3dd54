"""How long from a message's arrival to the Deployment with the workers that it needs, among 1,000 pools on one Redis?

The clock runs from just before the first message is sent to the API server's answer to the write of the Deployment's
replicas, by its audit log: noticing, deciding, the pool's scale subresource, the pass and its write. etcd and
kube-apiserver alone: no controllers, no pods.

The peer from zero is KEDA itself with its defaults, in the same run and on the same Redis, on as many Deployments. It
looks at a queue every 30 s while there is no worker (`pollingInterval`), so half of that is its median. At the end it
scales one of our pools, too.

From one to eleven the peer is on paper: the HorizontalPodAutoscaler that KEDA makes looks every 15 s
(`--horizontal-pod-autoscaler-sync-period`). A message that comes at any moment waits half of that in the median and
99 % of it at the 99th percentile, all else taking no time at all.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from operator_cluster import Entry, deployments, print_result, print_table, say, until
from operator_scale import is_apply, quiet
from peers import keda
from scaled import NAMESPACE, PER_REPLICA, Place, a_place

from localcluster import programs

KEDA_POLL_SECONDS = 30.0
HPA_SYNC_SECONDS = 15.0
SENDING_SECONDS = 10.0


async def delays(
    place: Place,
    names: list[str],
    messages: int,
    is_done: Callable[[Entry], bool],
    *,
    chance: random.Random,
    within: float = SENDING_SECONDS,
) -> list[float]:
    """Send this many messages to each queue, one after the other; return the seconds until each awaited write."""
    place.bench.audit.skip()
    sent: dict[str, float] = {}
    for name in names:
        sent[name] = time.time()
        place.redis.lpush(name, *["x"] * messages)
        await asyncio.sleep(within / len(names) * 2 * chance.random())
    written: dict[str, Entry] = {}

    async def look() -> bool:
        for each in place.bench.audit.read():
            if is_done(each) and each.name in sent:
                written.setdefault(each.name, each)
        return len(written) == len(sent)

    await until("the Deployments", look, every=0.2)
    return sorted(written[name].answered - sent[name] for name in names)


def is_ours(entry: Entry) -> bool:
    """Whether it is the write of a pool's Deployment."""
    return entry.namespace == NAMESPACE and is_apply(entry)


def at(share: float, found: list[float]) -> float:
    """A quantile of sorted figures."""
    return statistics.median(found) if share == 0.5 else found[int(len(found) * share) - 1]


def line(name: str, found: list[float], peers: list[float] | float) -> dict[str, Any]:
    """The figures of one kind, in milliseconds; the peer's were measured, or are an interval on paper, in seconds."""
    rows = {}
    for share, shown in ((0.5, "median"), (0.99, "99th percentile")):
        ours = at(share, found)
        peer = at(share, peers) if isinstance(peers, list) else peers * share
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
        from_zero = await delays(place, names, 1, is_ours, chance=chance)
        await quiet(place.bench, [])
        more = await delays(place, names, PER_REPLICA * 10, is_ours, chance=chance)
        await quiet(place.bench, [])
        # All at once: a round of many decisions.
        place.bench.audit.skip()
        storm = await delays_of_all(place, [name for name in place.names if name not in set(names)])
        await quiet(place.bench, [])
        peers = [f"keda-{name}" for name in place.names]
        async with keda.scaling(place.bench, peers, place.address, NAMESPACE):
            say(f"KEDA looks after {flags.pools} Deployments")
            chosen = chance.sample(peers, min(flags.samples, flags.pools))
            # All its rounds began together; so the messages come at all moments between two of them.
            kedas = await delays(place, chosen, 1, keda.is_scale, chance=chance, within=KEDA_POLL_SECONDS)
            await scale_a_pool_by_keda(place)
    details = {
        **line("from zero", from_zero, kedas),
        **line("from one to eleven, the peer on paper", more, HPA_SYNC_SECONDS),
    }
    rows = [[name, *(each[it] for it in ("ours", "peer", "ratio"))] for name, each in details.items()]
    print_table(["what", "ours ms", "peer ms", "ratio"], rows)
    ours, peer = statistics.median(from_zero), statistics.median(kedas)
    print_result(
        "scale-latency",
        ours=ours * 1000,
        peer=peer * 1000,
        ratio=peer / ours,
        unit=f"ms from the first message to the Deployment's replicas, median, {flags.pools} pools on one Redis",
        details={
            **details,
            "seconds_until_the_last_of_all_other_pools_left_zero_at_once": round(storm, 2),
            "other_pools": flags.pools - len(names),
            "peer": f"from zero KEDA {programs.PROGRAMS[keda.PROGRAM].module.version} in this run; on paper it polls "
            f"every {KEDA_POLL_SECONDS:.0f} s, and the HPA every {HPA_SYNC_SECONDS:.0f} s",
            "samples": len(names),
            "seed": flags.seed,
        },
    )


async def scale_a_pool_by_keda(place: Place) -> None:
    """A ScaledObject may name a pool without `autoscaling`: KEDA writes its scale, its Deployment follows."""
    name = "by-keda"
    await place.bench.create(NAMESPACE, [name], replicas=0, queues=[name])
    target = {"apiVersion": "celeriac.dev/v1alpha1", "kind": "CeleryWorkerPool"}
    await place.bench.request("POST", keda.scaled_objects(NAMESPACE), keda.scaled_object(name, place.address, **target))
    place.redis.lpush(name, "x")

    async def look() -> bool:
        there = await place.bench.items(deployments(NAMESPACE))
        return any(each["metadata"]["name"] == name and each["spec"]["replicas"] == 1 for each in there)

    await until("worker of a pool that KEDA scales", look, every=0.5)
    say("KEDA has scaled a pool")


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
