"""A burst of work: from no worker to many and back to none, with every task done."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from demo import install, waiting
from demo.kubernetes import Kube
from demo.shop import Shop

POOL = "labels"
OPERATOR = "app.kubernetes.io%2Fcomponent%3Doperator"
FIGURE = re.compile(r"^celeriac_operator_scaling_(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
BAR = 30  # characters for the most that waited


@dataclass(frozen=True)
class Sample:
    """One moment: what the operator read from the queue, and what the pool says."""

    at: float  # seconds since the first task was sent
    backlog: int
    oldest_wait_seconds: int
    in_flight: int
    replicas: int
    ready: int

    @property
    def is_at_rest(self) -> bool:
        return not (self.backlog or self.in_flight or self.replicas or self.ready)


@dataclass(frozen=True)
class Measured:
    """The burst from its first task until the pool is back at zero."""

    tasks: int
    done: int
    samples: tuple[Sample, ...]

    @property
    def most(self) -> int:
        return max(sample.replicas for sample in self.samples)

    def first(self, what: str) -> float:
        """Seconds until the first moment with at least one worker wanted, or ready."""
        return next((sample.at for sample in self.samples if getattr(sample, what)), float("inf"))

    @property
    def taken(self) -> float:
        """Seconds until the first message was taken. The pool says later that its worker is ready."""
        most = max(sample.backlog for sample in self.samples)
        full = next(number for number, sample in enumerate(self.samples) if sample.backlog == most)
        falls = next((sample.at for sample in self.samples[full:] if sample.backlog < most), float("inf"))
        return min(self.first("in_flight"), self.first("ready"), falls)

    def sentence(self) -> str:
        rest = self.samples[-1]
        return (
            f"{self.tasks} tasks on an empty pool: a worker asked for within {self.first('replicas'):.1f} s, the "
            f"first task taken after {self.taken:.1f} s; "
            f"{self.samples[0].replicas} -> {self.most} -> {rest.replicas} workers; "
            f"{self.done} tasks done, at rest after {rest.at:.0f} s"
        )

    def shortfall(self) -> str | None:
        if self.done != self.tasks:
            return f"every task was to be done, and {self.tasks - self.done} were not"
        if self.most < 2:
            return "the number of workers did not follow the backlog"
        return None if self.samples[-1].replicas == 0 else "the pool did not come to rest"


def run(shop: Shop, tasks: int = 60, seconds: float = 120) -> Measured:
    """Send tasks to a pool at zero, and watch until it is at zero again; print a line for each change.

    Raises:
        TimedOutError: the pool was not at zero before or after.
    """
    samples: list[Sample] = []
    rest = f"the pool {POOL} rests"
    waiting.until(rest, lambda: look(shop.kube, 0), lambda now: now.is_at_rest, seconds=seconds)
    shop.show("     s  workers  ready  running  waiting")
    began = time.monotonic()

    def watch() -> Sample:
        now = look(shop.kube, time.monotonic() - began)
        if not samples or line(samples[-1], tasks)[7:] != line(now, tasks)[7:]:
            shop.show(line(now, tasks))
        samples.append(now)
        return now

    def is_over(now: Sample) -> bool:
        return now.is_at_rest and any(sample.ready for sample in samples)

    with ThreadPoolExecutor(4) as senders:
        sent = [senders.submit(shop.start, "label", parcel=shop.name("parcel")) for _ in range(tasks)]
        waiting.until(rest, watch, is_over, seconds=seconds)
        results = [shop.wait_for_result(task.result(), seconds=30) for task in sent]
    return Measured(tasks, [result.state for result in results].count("SUCCESS"), tuple(samples))


def line(now: Sample, tasks: int) -> str:
    """Return a line of the live table; the bar shows the waiting messages."""
    bar = "#" * round(BAR * min(now.backlog, tasks) / tasks)
    return f"{now.at:6.1f}  {now.replicas:7}  {now.ready:5}  {now.in_flight:7}  {now.backlog:7}  {bar}".rstrip()


def look(kube: Kube, at: float) -> Sample:
    """The moment `at`."""
    figures, pool = read_figures(kube), kube.pool(POOL)
    return Sample(
        at=round(at, 2),
        backlog=figures.get("backlog_messages", 0),
        oldest_wait_seconds=figures.get("oldest_message_seconds", 0),
        in_flight=figures.get("in_flight_messages", 0),
        replicas=pool["spec"]["replicas"],
        ready=pool.get("status", {}).get("readyReplicas", 0),
    )


def read_figures(kube: Kube) -> dict[str, int]:
    """What the operator's metrics say of the pool's queue, by the metrics' names; nothing before its first reading."""
    system, found = kube.at(install.OPERATOR_NAMESPACE), {}
    for pod in system.pods(OPERATOR):
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        address = (
            f"api/v1/namespaces/{system.namespace}/pods/{pod['metadata']['name']}:{ports['metrics']}/proxy/metrics"
        )
        for figure in FIGURE.finditer(kube.request("GET", address)):
            if f'pool="{POOL}"' in figure["labels"] and f'pool_namespace="{kube.namespace}"' in figure["labels"]:
                found[figure["name"]] = round(float(figure["value"]))
    return found
