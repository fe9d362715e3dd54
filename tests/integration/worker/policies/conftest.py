"""An application with one task for each policy, and the Redis that its policies use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.policies.calls import OPTIONS, Tasks
from tests.integration.worker.processes import RedisServer

import celeriac
from celeriac import testing


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    it = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no").start()
    yield it
    it.kill()


@pytest.fixture
def tasks(server: RedisServer) -> Iterator[Tasks]:
    app = Celery("cells", set_as_current=False, broker="memory://")
    made = Tasks(app=app, ran=[], step=lambda *_: None)

    def body(self: Any, user: str, value: Any = None) -> Any:
        made.ran.append((self.name, value))
        made.step(self, len(made.ran))
        return value

    for name, policy in OPTIONS.items():
        app.task(base=celeriac.Task, bind=True, name=name, policy=policy, shared=False, max_retries=3)(body)
    with testing.policies(app, redis_url=server.url) as made.calls:
        yield made
