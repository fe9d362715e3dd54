"""A Django project runs as it does with Celery's own worker, and its log names the task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from tests import pages
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer

SEND = """
import django
django.setup()
from bookshop.orders.views import place
place(7)
"""


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    """The project that the guide tells its reader to write."""
    for block in pages.read("guides/django.md"):
        if block.file:
            path = tmp_path / "project" / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)
    return tmp_path / "project"


def test_every_handler_of_djangos_logging_may_name_the_task(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        "orchard", worker={"pool": "prefork"}, environment={"DJANGO_SETTINGS_MODULE": "orchard.settings"}
    ).until_ready(timeout=90)
    result = producer.send_task("orchard.tasks.order", (1,))
    assert result.get(timeout=60)
    worker.until_logged("delivered 1")
    place = f"[orchard.tasks.order] [{result.id}]"
    for line in (
        f":INFO] Task orchard.tasks.order[{result.id}]: by self.logger\n",
        f"DJANGO INFO {place} by a logger with its own handlers\n",
        f"DJANGO WARNING {place} by Django\n",
        f"DJANGO WARNING {place} by a library\n",
    ):
        assert worker.logs().count(line) == 1, worker.logs()
    assert "Logging error" not in worker.logs()
    file = (worker.directory / "orders.log").read_text()
    assert file == "FILE INFO [orchard.tasks.order] by a logger with its own handlers\n"


def test_the_project_of_the_guide_runs(guide: Path, start_worker: StartWorker, redis_server: RedisServer) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "bookshop.settings", "PYTHONPATH": str(guide)}
    worker = start_worker("bookshop", worker={"pool": "threads"}, environment=environment).until_ready(timeout=90)
    # The web process: it knows the broker from its settings.
    urls = {"CELERY_BROKER_URL": redis_server.url, "CELERY_RESULT_BACKEND": redis_server.url}
    web = {**os.environ, **environment, **urls}
    subprocess.run([sys.executable, "-c", SEND], env=web, cwd=guide, check=True, timeout=60)
    match = worker.until_logged(r"Task bookshop\.orders\.tasks\.confirm\[.+\]: confirming order 7$")
    assert match
    worker.until_logged(r" INFO \[bookshop\.orders\.tasks\.confirm\] one line from a module's own logger$")
    worker.until_logged(r" INFO \[-\] .+ ready\.$")
    assert "Logging error" not in worker.logs()
