"""An image with Celery in it, and without this library, runs as a worker by injection."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker

from celeriac.exits import Exit
from celeriac.image import inject


def launch(volume: Path) -> list[str]:
    """As the operator starts it; -S leaves out the packages of this environment."""
    return [sys.executable, "-S", str(volume / "launch.py"), "worker"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_an_image_without_the_library_runs_as_a_worker(
    pool: str, volume: Path, image: Path, start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker(
        "injected:app", worker={"pool": pool}, command=launch(volume), environment={"PYTHONPATH": str(image)}
    ).until_ready()
    places = producer.send_task("injected.where").get(timeout=10)
    assert places["celery"].startswith(str(image))
    assert places["celeriac"].startswith(str(volume / "lib"))
    assert places["redis"].startswith(str(volume / "lib"))
    assert places["path"][-1] == str(volume / "lib")
    assert producer.send_task("injected.logs").get(timeout=10) == "celery.task.injected.logs"
    worker.terminate()
    assert worker.wait() == Exit.OK


def test_the_images_own_packages_win(
    volume: Path, image: Path, tmp_path: Path, start_worker: StartWorker, producer: Celery
) -> None:
    own = Path(str(importlib.metadata.distribution("redis").locate_file("redis")))
    shutil.copytree(own, image / "redis", ignore=shutil.ignore_patterns("__pycache__"))
    start_worker(
        "injected:app", worker={"pool": "threads"}, command=launch(volume), environment={"PYTHONPATH": str(image)}
    ).until_ready()
    assert producer.send_task("injected.where").get(timeout=10)["redis"].startswith(str(image))


def test_an_image_without_celery_gets_a_sentence(volume: Path, tmp_path: Path, start_worker: StartWorker) -> None:
    worker = start_worker(command=launch(volume), environment={"PYTHONPATH": str(tmp_path)})
    assert worker.wait() == Exit.CONFIGURATION
    assert "Celery cannot be imported in this image with" in worker.termination_message()
    assert "No module named 'celery'" in worker.termination_message()


def test_a_volume_without_the_library_gets_a_sentence(volume: Path, tmp_path: Path, start_worker: StartWorker) -> None:
    lonely = tmp_path / "celeriac"
    lonely.mkdir()
    shutil.copy(volume / "launch.py", lonely)
    worker = start_worker(command=launch(lonely), environment={"PYTHONPATH": str(tmp_path)})
    assert worker.wait() == Exit.CONFIGURATION
    assert "let the init container run again" in worker.termination_message()


def test_a_second_run_changes_nothing_and_leaves_nothing_behind(volume: Path) -> None:
    before = sorted(str(path) for path in volume.rglob("*"))
    again = subprocess.run(
        [sys.executable, "-m", "celeriac", "inject", str(volume)], check=True, capture_output=True, text=True
    )
    assert sorted(str(path) for path in volume.rglob("*")) == before
    assert "celeriac 0" in again.stdout
    assert "celery" not in again.stdout.replace("celeriac", "")


def test_a_new_version_replaces_the_old_one(volume: Path, tmp_path: Path) -> None:
    copy = tmp_path / "celeriac"
    shutil.copytree(volume, copy, symlinks=True)
    old = copy / "lib-000000000000"
    (copy / "lib").resolve().rename(old)
    (copy / "lib").unlink()
    (copy / "lib").symlink_to(old.name)
    subprocess.run([sys.executable, "-m", "celeriac", "inject", str(copy)], check=True, capture_output=True)
    assert not old.exists()
    assert (copy / "lib" / "celeriac" / "__main__.py").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read everything whatever its mode")
def test_everything_can_be_read_by_any_user(volume: Path) -> None:
    for path in volume.rglob("*"):
        assert path.stat().st_mode & 0o004, path


def test_a_folder_that_cannot_be_written_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = subprocess.run(
        [sys.executable, "-m", "celeriac", "inject", str(tmp_path / "file" / "below")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == Exit.FAILURE
    assert "is it a writable volume?" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("python", "first_line"),
    [
        pytest.param([sys.executable], f"#!{sys.executable}", id="one interpreter: no shell is needed"),
        pytest.param([sys.executable, "-X", "utf8"], "#!/bin/sh", id="with flags"),
        pytest.param(["python3"], "#!/bin/sh", id="from the path"),
        pytest.param(["/opt/my app/bin/python"], "#!/bin/sh", id="a blank in the path"),
        pytest.param(["/" + "a" * 127], "#!/bin/sh", id="longer than a kernel reads"),
    ],
)
def test_the_command_starts_the_images_python(python: list[str], first_line: str, tmp_path: Path) -> None:
    launcher = tmp_path / "the library" / "launch.py"
    launcher.parent.mkdir()
    launcher.write_text("import sys\nprint(sys.argv[1:])\n")
    script = tmp_path / "celeriac"
    script.write_text(inject.command(launcher, python))
    script.chmod(0o755)
    assert script.read_text().splitlines()[0] == first_line
    if shutil.which(python[0]):
        said = subprocess.run([script, "dead", "show", "a b"], check=True, capture_output=True, text=True).stdout
        assert said == "['dead', 'show', 'a b']\n"
