"""A RabbitMQ for the tests of one module, and workers on virtual hosts of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.operator.rabbitmq import RabbitMQServer
from tests.integration.worker.polling import BACKEND
from tests.integration.worker.processes import RedisServer, WorkerProcess, document, free_port, worker_command


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    server = RabbitMQServer(tmp_path_factory.mktemp("rabbitmq")).start()
    yield server
    server.stop()


_numbers = itertools.count()


@pytest.fixture
def virtual_host(rabbitmq: RabbitMQServer) -> Iterator[str]:
    """The name of a virtual host that only this test uses."""
    name = f"test-{next(_numbers)}"
    rabbitmq.request("PUT", f"vhosts/{name}")
    rabbitmq.request("PUT", f"permissions/{name}/admin", {"configure": ".*", "write": ".*", "read": ".*"})
    yield name
    rabbitmq.request("DELETE", f"vhosts/{name}")


@pytest.fixture
def broker_url(rabbitmq: RabbitMQServer, virtual_host: str) -> str:
    return rabbitmq.url(virtual_host=virtual_host)


@pytest.fixture
def producer(broker_url: str, redis_server: RedisServer) -> Iterator[Celery]:
    """A plain Celery application that publishes to RabbitMQ and reads results from Redis."""
    app = Celery("producer", broker=broker_url, backend=f"{BACKEND}+{redis_server.url}", set_as_current=False)
    yield app
    app.close()


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(tmp_path: Path, broker_url: str, redis_server: RedisServer) -> Iterator[StartWorker]:
    """Start workers on the virtual host: `start_worker("deadly:app", worker={"pool": "threads"})`."""
    started: list[WorkerProcess] = []

    def start(app: str, *, environment: Mapping[str, str] | None = None, **sections: Any) -> WorkerProcess:
        directory = tmp_path / f"worker-{len(started)}"
        directory.mkdir()
        urls = {"CELERIAC_BROKER_URL": broker_url, "CELERIAC_RESULT_BACKEND_URL": redis_server.url}
        shared = {**urls, "TEST_DIRECTORY": str(tmp_path), **(environment or {})}
        process = WorkerProcess(directory, document(app, port=free_port(), **sections), shared, worker_command())
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.clean_up()
