"""What the benchmarks of autoscaling have in common: pools that scale, on one real Redis."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operator_cluster import Bench, Manifest, Operator, in_parallel, open_bench, pool, pools, until
from operator_scale import quiet
from tests.integration.worker.processes import RedisServer

NAMESPACE = "scaled"
PER_REPLICA = 5
MOST = 100


@dataclass(frozen=True, kw_only=True)
class Place:
    """A control plane, an operator, a Redis, and pools, all idle."""

    bench: Bench
    operator: Operator
    redis: Any
    address: str
    """Of the Redis: host:port."""
    names: tuple[str, ...]


@contextlib.contextmanager
def a_redis() -> Iterator[RedisServer]:
    """A Redis of its own."""
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-redis-") as folder:
        server = RedisServer(Path(folder), appendonly="no").start()
        try:
            yield server
        finally:
            server.kill()


def scales(name: str, url: str) -> Manifest:
    """What a pool that scales has beyond another one; it begins at rest."""
    return {
        "replicas": 0,
        "queues": [name],
        "broker": {"url": url},
        "autoscaling": {"maxReplicas": MOST, "target": {"backlogPerReplica": PER_REPLICA}},
    }


@contextlib.asynccontextmanager
async def a_place(count: int, *, scaled: bool = True) -> AsyncIterator[Place]:
    """All of it; `scaled` False: the same pools, without autoscaling."""
    names = tuple(f"pool-{number:05}" for number in range(count))
    with a_redis() as server, server.client as client:
        async with open_bench(pods=False) as bench:
            await bench.namespace(NAMESPACE)
            await in_parallel(8, [_create(bench, name, server.url, scaled=scaled) for name in names])
            bench.audit.skip()
            with bench.operator(NAMESPACE, ours=True) as operator:
                await until("all Deployments", lambda: _has_deployments(bench, count), every=0.5)
                await quiet(bench, [])
                address = f"127.0.0.1:{server.port}"
                yield Place(bench=bench, operator=operator, redis=client, address=address, names=names)


async def _create(bench: Bench, name: str, url: str, *, scaled: bool) -> None:
    spec = scales(name, url)
    if not scaled:
        del spec["autoscaling"]
    await bench.request("POST", pools(NAMESPACE), pool(NAMESPACE, name, **spec))


async def _has_deployments(bench: Bench, count: int) -> bool:
    return len(await bench.items(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments")) >= count
