"""Whatever is killed at whatever moment, `up` works again, and `down` leaves this machine as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.tools.machine import Machine
from tests.waiting import eventually

from localcluster import processes
from localcluster.configuration import FIXED_PATHS, home_id

pytestmark = pytest.mark.cluster


def leftovers(home: Path) -> list[str]:
    """What a cluster could have left on this machine."""
    name = home_id(home)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    trees = Path("/sys/fs/cgroup")
    return [
        *(f"process {it.pid} {it.name}" for it in processes.running(home)),
        *(f"mount {where}" for where in mounts if where.startswith(str(home))),
        *(f"cgroup {path}" for path in (trees / name, *trees.glob(f"*/{name}")) if path.exists()),
        *(f"interface {path}" for path in [Path("/sys/class/net") / name] if path.exists()),
        *(f"folder {path}" for path in [home] if path.exists()),
    ]


def machine_settings() -> dict[str, str]:
    """What a cluster could have changed on this machine: rules and the sysctls that Kubernetes likes to set."""
    found = {
        f"{program} {table}": subprocess.run(
            [program, "-t", table, "-S"], capture_output=True, text=True, check=True
        ).stdout
        for program in ("iptables", "ip6tables")
        for table in ("filter", "nat", "mangle")
    }
    for name in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"):
        found[name] = (Path("/proc/sys") / name).read_text()
    return found


@pytest.fixture
def clean(machine: Machine) -> Iterator[Machine]:
    """A machine that has to be as it was, when the test is over and the cluster is down."""
    before = machine_settings()
    yield machine
    machine("down")
    assert leftovers(machine.home) == []
    assert machine_settings() == before


def test_a_cluster_changes_nothing_of_the_machine_while_it_runs(clean: Machine) -> None:
    before = machine_settings()
    clean("up")
    assert machine_settings() == before
    mounts = Path("/proc/mounts").read_text()
    assert str(clean.home) not in mounts


@pytest.mark.timeout(120)
def test_a_starter_killed_at_any_moment_is_no_obstacle(clean: Machine) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    chosen = random.Random(seed)  # noqa: S311 -- chooses moments, not secrets
    cut_short = 0
    for _ in range(5):
        starter = clean.start("up")
        try:
            starter.communicate(timeout=chosen.uniform(0.1, 4))
        except subprocess.TimeoutExpired:  # else it was done: what an earlier one had left was all that it needed
            cut_short += 1
        starter.kill()
        starter.communicate()
    assert cut_short, "none was killed before it was done"
    clean("up")
    assert clean.status()["up"]


def test_ctrl_c_takes_back_what_was_begun(clean: Machine) -> None:
    starter = clean.start("up")
    eventually(
        lambda: processes.running(clean.home),
        lambda seen: any(process.name == "kube-apiserver" for process in seen),
        timeout=20,
        what="kube-apiserver runs",
    )
    starter.send_signal(signal.SIGINT)
    starter.communicate(timeout=20)
    assert starter.returncode == 130
    assert leftovers(clean.home) == []


def test_a_program_that_was_killed_is_noticed_and_up_repairs(clean: Machine) -> None:
    clean("up")
    for name in ("etcd", "containerd"):
        for process in processes.running(clean.home):
            if process.name == name:
                os.kill(process.pid, signal.SIGKILL)
        status = clean.status()
        assert not status["up"]
        assert status["state"].startswith("broken")
        assert "the cluster is up" in clean("up")
        assert clean.status()["up"]


def test_the_first_process_takes_all_others_with_it(clean: Machine) -> None:
    """The kernel ends every process of the namespace: nothing depends on anybody tidying up."""
    clean("up")
    for process in processes.running(clean.home):
        if process.name == "sandbox":
            os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: processes.running(clean.home), lambda seen: not seen, timeout=10, what="no process is left")


def test_two_starts_at_once_make_one_cluster(clean: Machine) -> None:
    first, second = clean.start("up"), clean.start("up")
    said = "".join("".join(starter.communicate()) for starter in (first, second))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "waiting for it" in said
    assert len([it for it in processes.running(clean.home) if it.name == "etcd"]) == 1


def test_a_reused_process_number_is_never_ended(clean: Machine) -> None:
    """Somebody else's process with a number that a cluster's once had, and even with a cluster's name on its line."""
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"]}) as innocent:
        stale = processes.Process(innocent.pid, 1, "etcd", str(clean.home))
        assert processes.stop([stale], grace_seconds=0) == []
        assert innocent.poll() is None
        innocent.kill()


def test_no_mount_point_stays_when_no_cluster_runs(clean: Machine) -> None:
    existed = {path for path in FIXED_PATHS if path.exists() and any(path.iterdir())}
    clean("up")
    clean("down")
    others = [it for it in processes.running() if it.name == "sandbox"]
    left = {path for path in FIXED_PATHS if path.exists()} - existed
    assert others or not left
