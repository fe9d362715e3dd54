"""`python -m celeriac doctor` on real applications, and what workers say of themselves at their start."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import Any

import pytest
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import APPS, document

PROMISE = {"delivery": {"mode": "AtLeastOnce"}}


def run_doctor(
    *arguments: str, config: dict[str, Any] | None = None, url: str = "redis://:secret@127.0.0.1:9/0"
) -> subprocess.CompletedProcess[str]:
    """Nothing listens under the URL: the doctor does not connect."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "CELERIAC"))}
    environment |= {"CELERIAC_BROKER_URL": url, "PYTHONPATH": str(APPS)}
    if config is not None:
        environment["CELERIAC_CONFIG"] = json.dumps(config)
    command = [sys.executable, "-m", "celeriac", "doctor", *arguments]
    return subprocess.run(command, env=environment, cwd=APPS, capture_output=True, text=True, timeout=120, check=False)


def test_a_sound_application_has_no_findings() -> None:
    answer = run_doctor("--app", "basic:app")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "0 errors, 0 warnings"
    assert "tasks sent to celery" in answer.stdout
    assert "secret" not in answer.stdout + answer.stderr


def test_findings_are_printed_and_errors_show_in_the_exit_code() -> None:
    answer = run_doctor("--json", config=document("ailing:app", port=8787, **PROMISE))
    assert answer.returncode == 1, answer.stderr
    # Whatever the application prints goes elsewhere.
    printed = json.loads(answer.stdout)
    assert [(it["code"], it["severity"]) for it in printed["findings"]] == [
        ("early-acks", "error"),
        ("drain-below-limit", "warning"),
    ]
    rows = {(it["name"], it["task"]): (it["value"], it["source"]) for it in printed["settings"]}
    assert rows["task_acks_late", None] == (True, "pool")
    assert rows["task_acks_late", "early"] == (False, "task")
    assert rows["task_time_limit", "long"] == (900, "task")
    assert rows["worker_hijack_root_logger", None] == (False, "celeriac")
    assert "secret" not in answer.stdout + answer.stderr


def test_by_hand_the_applications_concurrency_holds() -> None:
    def slots(*arguments: str) -> tuple[object, str]:
        printed = json.loads(run_doctor("--app", "owned:app", "--json", *arguments).stdout)
        (row,) = [it for it in printed["settings"] if it["name"] == "worker_concurrency"]
        return row["value"], row["source"]

    assert slots() == (6, "app")


def test_warnings_alone_are_no_error() -> None:
    answer = run_doctor(config=document("ailing:app", port=8787))
    assert answer.returncode == 0, answer.stderr
    assert "(drain-below-limit)" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "0 errors, 1 warnings"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        pytest.param(("--app", "nothing.here"), 78, "cannot be imported", id="no such application"),
        pytest.param((), 64, "there is no document", id="no application at all"),
    ],
)
def test_what_cannot_be_examined_is_said(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    answer = run_doctor(*arguments)
    assert answer.returncode == code
    assert sentence in answer.stderr


def test_a_worker_logs_each_finding_once_at_its_start(start_worker: StartWorker) -> None:
    worker = start_worker("ailing:app", worker={"pool": "prefork", "concurrency": 2}, **PROMISE).until_ready(timeout=90)
    for code in ("early-acks", "drain-below-limit"):
        assert worker.logs().count(f"({code})") == 1
    assert ":WARNING] [-] doctor: delivery.mode is AtLeastOnce, but early declares acks_late=False" in worker.logs()


def test_a_sound_worker_has_nothing_to_say(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "prefork", "concurrency": 2}).until_ready(timeout=90)
    assert "doctor:" not in worker.logs()


def test_a_shell_above_the_worker_is_found_at_its_start(start_worker: StartWorker) -> None:
    worker = start_worker(
        command=["sh", "-c", f"{shlex.quote(sys.executable)} -m celeriac worker; true"],
        environment={"CELERIAC_POD_UID": "a-pod"},
        worker={"pool": "prefork"},
    ).until_ready(timeout=90)
    match = worker.until_logged(r"doctor: process (\d+) \(sh\) is a parent of the worker and does not pass SIGTERM on")
    assert int(match[1]) == worker.pid
