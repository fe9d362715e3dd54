"""The worker as process 1 of a container: of a PID namespace of its own, which root may make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import WorkerProcess, worker_command
from tests.waiting import eventually

from celeriac.exits import Exit

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

pytestmark = pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,
    reason="PID namespaces need root",
)


def inside(worker: WorkerProcess) -> int:
    """The process outside that is process 1 inside."""
    (pid,) = eventually(worker.children, what="the namespace's first process")
    assert Path(f"/proc/{pid}/status").read_text().split("NSpid:")[1].split()[1] == "1"
    return pid


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_process_one_drains_on_sigterm(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": pool}, command=[*NAMESPACE, *worker_command()]).until_ready()
    result = producer.send_task("basic.sleep", (2,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    os.kill(inside(worker), 15)
    assert worker.wait() == Exit.OK
    assert result.get(timeout=1) == 2


def test_process_one_obeys_sigterm_while_it_still_imports(start_worker: StartWorker) -> None:
    worker = start_worker("slow:app", command=[*NAMESPACE, *worker_command()])
    eventually((worker.directory / "importing").exists, what="the import has begun")
    os.kill(inside(worker), 15)
    assert worker.wait() == Exit.OK


def test_orphans_of_a_task_are_reaped_and_the_pools_own_are_not(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        "orphans:app",
        worker={"pool": "prefork"},
        command=[*NAMESPACE, *worker_command()],
        environment={"ORPHANS_PATIENCE_SECONDS": "1"},
    ).until_ready()
    first = inside(worker)
    producer.send_task("orphans.leave_one_behind").get(timeout=10)

    def zombies() -> list[int]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == first:
                found.append(int(stat.parent.name))
        return found

    worker.until(zombies, what="the orphan is dead and nobody has asked for it")
    worker.until(zombies, lambda it: not it, what="the orphan is reaped")
    assert producer.send_task("orphans.leave_none_behind").get(timeout=10) == "fine"
