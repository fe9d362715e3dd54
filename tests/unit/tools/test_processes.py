"""A process is ours only if it says so itself, and a reused number never is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcluster import processes
from localcluster.errors import LocalClusterError

HOME = Path("/home/x/cluster")


def a_proc(folder: Path, *entries: tuple[int, str, str, str]) -> Path:
    """A /proc with these processes: number, environment, command's name, state."""
    for pid, environment, comm, state in entries:
        place = folder / str(pid)
        place.mkdir()
        (place / "environ").write_bytes(environment.replace("|", "\0").encode() + b"\0")
        fields = " ".join(["0"] * 18)
        (place / "stat").write_text(f"{pid} ({comm}) {state} {fields} {pid * 100} 0 0\n")
    (folder / "self").mkdir()
    return folder


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(b"PATH=/bin\0LOCALCLUSTER_PROCESS=etcd@/home/c\0X=1\0", ("etcd", "/home/c"), id="marked"),
        pytest.param(b"LOCALCLUSTER_PROCESS=etcd@/a@b\0", ("etcd", "/a@b"), id="an @ in the path"),
        pytest.param(b"PATH=/bin\0", None, id="not marked"),
        pytest.param(b"MY_LOCALCLUSTER_PROCESS=etcd@/home/c\0", None, id="another variable that ends like it"),
        pytest.param(b"LOCALCLUSTER_PROCESS=etcd\0", None, id="no home"),
        pytest.param(b"", None, id="a kernel thread or a zombie"),
    ],
)
def test_the_mark_is_read_from_the_environment(environ: bytes, expected: tuple[str, str] | None) -> None:
    assert processes.parse_mark(environ) == expected


def test_the_start_time_is_found_behind_any_command_name() -> None:
    fields = " ".join(["0"] * 18)
    assert processes.parse_stat(f"7 (a) b (c)) S {fields} 4242 1 2") == ("S", 4242)


def test_only_live_processes_of_this_home_are_found(tmp_path: Path) -> None:
    mark = f"LOCALCLUSTER_PROCESS=etcd@{HOME}"
    proc = a_proc(
        tmp_path,
        (10, f"A=1|{mark}", "etcd", "S"),
        (11, "A=1", "etcd", "S"),
        (12, f"{mark}-other", "etcd", "S"),
        (13, mark, "etcd", "Z"),
    )
    assert processes.running(HOME, proc) == [processes.Process(10, 1000, "etcd", str(HOME))]
    assert len(processes.running(None, proc)) == 2


@pytest.mark.parametrize(
    ("state", "started", "expected"),
    [
        pytest.param("S", 1000, True, id="it sleeps"),
        pytest.param("S", 1001, False, id="another process has its number"),
        pytest.param("Z", 1000, False, id="it ended and nobody has read its exit status"),
        pytest.param("X", 1000, False, id="it is being removed"),
    ],
)
def test_a_process_whose_environment_is_empty_during_an_exec_still_runs(
    tmp_path: Path, state: str, started: int, expected: bool
) -> None:
    proc = a_proc(tmp_path, (10, "", "etcd", state))
    assert processes.is_running(processes.Process(10, started, "etcd", str(HOME)), proc) is expected


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Callable[..., processes.Process]]:
    def start(*argv: str) -> processes.Process:
        return processes.start("sleeper", argv or ("sleep", "60"), home=tmp_path, log=tmp_path / "log" / "sleeper.log")

    yield start
    processes.stop_all(tmp_path)


def test_what_was_started_is_found_and_ended(tmp_path: Path, sleeper: Callable[..., processes.Process]) -> None:
    process = sleeper()
    assert processes.running(tmp_path) == [process]
    assert processes.stop([process], grace_seconds=5) == []
    assert processes.running(tmp_path) == []


def test_what_does_not_listen_is_killed_and_named(sleeper: Callable[..., processes.Process]) -> None:
    deaf = sleeper("python3", "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)")
    assert processes.stop([deaf], grace_seconds=0.2) in ([deaf], [])  # [] only if SIGTERM came before the handler
    assert not processes.is_running(deaf)


def test_children_inherit_the_mark(tmp_path: Path, sleeper: Callable[..., processes.Process]) -> None:
    sleeper("sh", "-c", "sleep 61 & sleep 62")
    while len(processes.running(tmp_path)) < 3:
        os.sched_yield()
    processes.stop_all(tmp_path)
    assert processes.running(tmp_path) == []


def test_a_number_that_now_means_another_process_is_left_alone(sleeper: Callable[..., processes.Process]) -> None:
    process = sleeper()
    earlier = processes.Process(process.pid, process.started - 1, process.name, process.home)
    assert processes.stop([earlier], grace_seconds=0) == []
    assert processes.is_running(process)


def test_a_stranger_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        claimed = processes.Process(stranger.pid, 1, "etcd", str(tmp_path))
        processes.stop([claimed], grace_seconds=0)
        assert stranger.poll() is None
        stranger.send_signal(signal.SIGKILL)


def test_the_last_words_are_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert processes.tail(log, 2) == f"  line 98\n  line 99\n  (from {log})"
    assert processes.tail(tmp_path / "absent.log") == f"(no log at {tmp_path / 'absent.log'})"


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((LocalClusterError, FileNotFoundError)):
        processes.start("absent", [tmp_path / "absent"], home=tmp_path, log=tmp_path / "absent.log")
