"""A worker that hangs is restarted, and the task that it was running is finished by another run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from demo import faults, waiting
from demo.kubernetes import Kube, restarts
from demo.shop import Shop

POOL = "reports"
TASK_SECONDS = 30.0  # longer than it takes to notice, so that the frozen worker's own children cannot finish it


@dataclass(frozen=True)
class Measured:
    """From SIGSTOP to the end of the task; seconds since the signal."""

    restarted: int
    seconds_to_restart: float
    seconds_to_finish: float
    state: str
    deliveries: int

    def sentence(self) -> str:
        return (
            f"container restarted {self.seconds_to_restart:.1f} s after SIGSTOP; its {TASK_SECONDS:g} s task was "
            f"delivered {self.deliveries} times and finished after {self.seconds_to_finish:.1f} s: {self.state}"
        )

    def shortfall(self) -> str | None:
        if self.restarted != 1:
            return "one restart of the container was promised"
        if self.state != "SUCCESS":
            return "the task was promised to finish"
        if self.deliveries < 2:
            return "the task was never taken from the frozen worker: this run proves nothing"
        return None


def run(shop: Shop) -> Measured:
    """Give a worker a task, freeze its first process, and wait for the task's end."""
    kube = shop.kube
    (pod,) = kube.pool_pods(POOL)
    before = sum(restarts([pod]).values())
    title = shop.name("report")
    task_id = shop.start("render", title=title, seconds=TASK_SECONDS)
    line = f"rendering {title}"
    waiting.until("the task runs", lambda: worker_logs(kube, pod), lambda logs: line in logs, seconds=60)

    faults.send(kube, pod, "worker", "STOP")
    began = time.monotonic()
    name = pod["metadata"]["name"]
    restarted = waiting.until(
        "the worker's container is restarted",
        lambda: sum(restarts([kube.read(f"api/v1/namespaces/{kube.namespace}/pods/{name}")]).values()) - before,
        lambda count: count > 0,
        seconds=90,
    )
    seconds_to_restart = time.monotonic() - began
    result = shop.wait_for_result(task_id, seconds=120)
    seconds_to_finish = time.monotonic() - began
    deliveries = sum(worker_logs(kube, pod, *previous).count(line) for previous in ((), ("--previous",)))
    return Measured(restarted, seconds_to_restart, seconds_to_finish, result.state, deliveries)


def worker_logs(kube: Kube, pod: dict[str, dict[str, str]], *options: str) -> str:
    """Return what the pod's worker has written."""
    return kube.kubectl("logs", pod["metadata"]["name"], "--container=worker", *options)
