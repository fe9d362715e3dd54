"""`kubectl scale` on the pool gives it that many workers."""

from __future__ import annotations

import time
from dataclasses import dataclass

from demo import waiting
from demo.kubernetes import Kube
from demo.shop import Shop

POOL = "shop-tasks"


@dataclass(frozen=True)
class Measured:
    """From the command to that many ready workers."""

    said: str
    before: int
    ready: int
    wanted: int
    seconds: float

    def sentence(self) -> str:
        return f"{self.said}: {self.before} -> {self.ready} ready workers in {self.seconds:.1f} s"

    def shortfall(self) -> str | None:
        return None if self.ready == self.wanted else f"{self.wanted} workers were asked for"


def run(shop: Shop, wanted: int = 3) -> Measured:
    """Scale the pool and wait until its status says that the workers are ready."""
    before = settle(shop.kube, 1)
    began = time.monotonic()
    said = shop.kube.kubectl("scale", f"cwp/{POOL}", f"--replicas={wanted}").strip()
    ready = waiting.until(
        f"{wanted} workers of {POOL} are ready",
        lambda: ready_workers(shop.kube),
        lambda count: count == wanted,
        seconds=90,
    )
    return Measured(said, before, ready, wanted, time.monotonic() - began)


def ready_workers(kube: Kube) -> int:
    """Return how many workers the pool's status calls ready."""
    return int(kube.pool(POOL).get("status", {}).get("readyReplicas", 0))


def settle(kube: Kube, replicas: int) -> int:
    """Bring the pool to a number of workers and return it, once all others are gone."""
    kube.kubectl("scale", f"cwp/{POOL}", f"--replicas={replicas}")
    waiting.until(
        f"{POOL} has {replicas} worker",
        lambda: (ready_workers(kube), len(kube.pool_pods(POOL))),
        lambda seen: seen == (replicas, replicas),
        seconds=90,
    )
    return replicas
