"""A log line says which task wrote it: from the worker, from code inside a task, and from the task's own logger."""

from __future__ import annotations

import re
from dataclasses import dataclass

from demo import waiting
from demo.shop import Shop

POOL = "shop-tasks"
TASK = "storefront.tasks.pack"
TIME = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}:INFO\]"


@dataclass(frozen=True)
class Measured:
    """Lines quoted from `kubectl logs`; empty where there is none in the promised format."""

    worker_line: str
    code_line: str
    task_line: str

    def sentence(self) -> str:
        return "\n".join(line for line in (self.worker_line, self.code_line, self.task_line) if line)

    def shortfall(self) -> str | None:
        kinds = {"worker's own": self.worker_line, "ordinary code's": self.code_line, "task logger's": self.task_line}
        missing = [kind for kind, line in kinds.items() if not line]
        return f"no {' and no '.join(missing)} line in the promised format" if missing else None


def find(text: str, pattern: str) -> str:
    """Return the last line that is wholly of this form, or nothing."""
    found = re.findall(f"^{pattern}$", text, re.MULTILINE)
    return str(found[-1]) if found else ""


def run(shop: Shop) -> Measured:
    """Pack an order, which logs in both ways, and read the pool's logs."""
    order = shop.name("order")
    task_id = shop.start("pack", order=order, seconds=0.1)
    shop.wait_for_result(task_id, seconds=20)

    def read_logs() -> str:
        selector = shop.kube.pool(POOL)["status"]["selector"]
        return shop.kube.kubectl("logs", "--selector", selector, "--container", "worker", "--tail=-1")

    text = waiting.until(
        "the order is in the logs", read_logs, lambda logs: f"packed order {order}" in logs, seconds=10
    )
    return Measured(
        worker_line=find(text, rf"{TIME} \[-\] .*\bready\..*"),
        code_line=find(text, rf"{TIME} \[{re.escape(TASK)}\] weighing order {order}"),
        task_line=find(text, rf"{TIME} Task {re.escape(TASK)}\[{task_id}\]: packing order {order}"),
    )
