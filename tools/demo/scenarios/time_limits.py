"""A task that never returns is ended: by the soft limit, or, if it ignores that, by the hard one."""

from __future__ import annotations

import time
from dataclasses import dataclass

from demo.kubernetes import restarts
from demo.shop import Shop

POOL = "suppliers"


@dataclass(frozen=True)
class Measured:
    """How one task ended."""

    error: str
    seconds: float
    limit_seconds: int
    promised_error: str
    restarted: dict[str, int]

    def sentence(self) -> str:
        return f"limit {self.limit_seconds} s: ended after {self.seconds:.1f} s with {self.error}"

    def shortfall(self) -> str | None:
        if self.promised_error not in self.error:
            return f"{self.promised_error} was promised"
        if self.seconds < self.limit_seconds:
            return f"it had {self.limit_seconds} s"
        if any(self.restarted.values()):
            return f"the limit of one task must not restart a worker: {self.restarted}"
        return None


def run_soft(shop: Shop) -> Measured:
    """Start a task that sleeps for ever."""
    return measure(shop, stubborn=False)


def run_hard(shop: Shop) -> Measured:
    """Start a task that sleeps for ever and ignores the soft limit."""
    return measure(shop, stubborn=True)


def measure(shop: Shop, *, stubborn: bool) -> Measured:
    """Start the task, wait for its end and say which limit should have ended it."""
    limits = shop.kube.pool(POOL)["spec"]["timeLimits"]
    limit, error = (
        (limits["hardSeconds"], "TimeLimitExceeded") if stubborn else (limits["softSeconds"], "SoftTimeLimitExceeded")
    )
    before = restarts(shop.kube.pool_pods(POOL))
    began = time.monotonic()
    task_id = shop.start("ask_supplier", supplier=shop.name("supplier"), stubborn=stubborn)
    result = shop.wait_for_result(task_id, seconds=limit + 30)
    seconds = time.monotonic() - began
    after = restarts(shop.kube.pool_pods(POOL))
    return Measured(
        result.error or f"{result.state}: {result.value}", seconds, limit, error,
        {name: count - before.get(name, 0) for name, count in after.items()},
    )  # fmt: skip
