"""Redis is killed and stays away: no worker is restarted, and all work resumes when Redis is back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from demo import waiting
from demo.kubernetes import CommandError, Kube, condition_of, restarts
from demo.shop import Result, Shop

POOLS = ("shop-tasks", "suppliers", "reports")
OUTAGE_SECONDS = 20
TASK_SECONDS = 3
WAITING_TASKS = 12  # more than there are slots: some run when Redis goes, the others wait in it


@dataclass(frozen=True)
class Measured:
    """What an outage did to the workers and to the work."""

    away_seconds: float
    restarted: dict[str, int]
    pods_kept: bool
    not_ready_meanwhile: bool
    finished: int
    started: int
    seconds_to_resume: float

    def sentence(self) -> str:
        return (
            f"away for {self.away_seconds:.1f} s: {sum(self.restarted.values())} container restarts, "
            f"{self.finished} of {self.started} tasks that were under way finished, "
            f"a new one, queued behind them, {self.seconds_to_resume:.1f} s after Redis was back"
        )

    def shortfall(self) -> str | None:
        again = [name for name, count in self.restarted.items() if count]
        if again or not self.pods_kept:
            return f"no restart was promised: {', '.join(again) or 'pods were replaced'}"
        if not self.not_ready_meanwhile:
            return "the pool was promised not to be Ready while its broker was away"
        if self.finished != self.started:
            return "every task was promised to finish"
        return None


def run(shop: Shop) -> Measured:
    """Start tasks, kill Redis, keep it away, and check which tasks succeed and whether new ones run."""
    kube = shop.kube
    for pool in POOLS:
        kube.wait_ready(pool)
    before = [pod for pool in POOLS for pod in kube.pool_pods(pool)]
    tasks = [shop.start("pack", order=shop.name("order"), seconds=TASK_SECONDS) for _ in range(WAITING_TASKS)]
    waiting.until(
        "tasks run", lambda: [shop.result(task).state for task in tasks], lambda seen: "STARTED" in seen, seconds=60
    )
    killed = kill_redis(kube)
    ready = waiting.until(
        "the pool is not Ready without its broker",
        lambda: condition_of(kube.pool(POOLS[0]), "Ready").status,
        lambda status: status != "True" or time.monotonic() - killed > OUTAGE_SECONDS,
        seconds=OUTAGE_SECONDS + 5,
    )
    waiting.until("Redis is back", lambda: answers(kube), bool, seconds=OUTAGE_SECONDS + 20)
    back = time.monotonic()
    probe = shop.start("pack", order=shop.name("order"), seconds=0)
    shop.wait_for_result(probe, seconds=90)
    seconds_to_resume = time.monotonic() - back
    results = [shop.wait_for_result(task, seconds=60) for task in tasks]
    for pool in POOLS:
        kube.wait_ready(pool)
    after = [pod for pool in POOLS for pod in kube.pool_pods(pool)]
    return Measured(
        away_seconds=back - killed,
        restarted={name: count - restarts(before).get(name, 0) for name, count in restarts(after).items()},
        pods_kept=uids(before) == uids(after),
        not_ready_meanwhile=ready != "True",
        finished=count_successes(results),
        started=len(tasks),
        seconds_to_resume=seconds_to_resume,
    )


def kill_redis(kube: Kube) -> float:
    """Kill Redis, arrange that it stays away, and return when."""
    kill = f"echo {OUTAGE_SECONDS} > /data/outage; kill -KILL $(cat /data/redis.pid)"
    kube.kubectl("exec", "deployment/redis", "--", "sh", "-c", kill)
    return time.monotonic()


def answers(kube: Kube) -> bool:
    """Whether Redis answers."""
    ping = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping'
    try:
        return "PONG" in kube.kubectl("exec", "deployment/redis", "--", "sh", "-c", ping)
    except CommandError:
        return False


def uids(pods: list[Any]) -> set[str]:
    """Return the pods' identities: a pod that was replaced has another one."""
    return {pod["metadata"]["uid"] for pod in pods}


def count_successes(results: list[Result]) -> int:
    """Return how many tasks succeeded."""
    return sum(result.state == "SUCCESS" for result in results)
