"""Fixtures that start real servers and workers, and end them whatever happens."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.polling import BACKEND
from tests.integration.worker.processes import RedisServer, WorkerProcess, document, free_port, worker_command


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bear what the test's own Celery leaves behind.

    A client whose server was killed leaves its socket to the garbage collector, which may find it in any later test.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server that runs; `stop`, `kill`, `pause`, `restart` are the test's to call."""
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(directory).start()
    yield server
    server.kill()


@pytest.fixture
def producer(redis_server: RedisServer) -> Iterator[Celery]:
    """A plain Celery application that sends tasks by name and reads their results."""
    app = Celery("producer", broker=redis_server.url, backend=f"{BACKEND}+{redis_server.url}", set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    yield app
    app.close()


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(tmp_path: Path, redis_server: RedisServer) -> Iterator[StartWorker]:
    """Start workers: `start_worker("basic:app", worker={"pool": "threads"})`.

    Keyword arguments are sections of the document. `environment` is laid over the process's, variables in `without`
    are taken out of it; `command` replaces the command and `arguments` follow it, with {port} for the health port. The
    broker and result URLs are those of `redis_server` unless the environment says otherwise.
    """
    started: list[WorkerProcess] = []

    def start(
        app: str = "basic:app",
        *,
        environment: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
        command: list[str] | None = None,
        arguments: Sequence[str] = (),
        **sections: Any,
    ) -> WorkerProcess:
        directory = tmp_path / f"worker-{len(started)}"
        directory.mkdir()
        urls = {"CELERIAC_BROKER_URL": redis_server.url, "CELERIAC_RESULT_BACKEND_URL": redis_server.url}
        process = WorkerProcess(
            directory,
            document(app, port=free_port(), **sections),
            {**urls, **(environment or {})},
            command or worker_command(),
        )
        for name in without:
            del process.environment[name]
        process.command = [*process.command, *(it.replace("{port}", str(process.port)) for it in arguments)]
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.clean_up()


PYTHON = (f"--python={sys.executable}", "--python=-S")
"""How the image starts Python: -S leaves out the packages of this environment."""
IMAGE = (  # celery and what it needs, without what the library brings along
    *("celery", "kombu", "billiard", "vine", "amqp", "python-dateutil", "six", "tzlocal", "tzdata"),
    *("click", "click-didyoumean", "click-repl", "click-plugins", "prompt-toolkit", "wcwidth", "typing-extensions"),
)


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the init container leaves behind."""
    directory = tmp_path_factory.mktemp("celeriac")
    subprocess.run(
        [sys.executable, "-m", "celeriac", "inject", str(directory), *PYTHON], check=True, capture_output=True
    )
    return directory


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder of packages as an image has them: Celery's, linked."""
    site = tmp_path / "site-packages"
    site.mkdir()
    for name in IMAGE:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # not needed on this Python
        for top in {file.parts[0] for file in files if file.parts[0] not in {"..", "__pycache__"}}:
            source = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return site
