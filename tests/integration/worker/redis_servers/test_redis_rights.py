"""The rights in Redis that docs/guides/delivery.md names are sufficient, and each of them is needed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer

from celeriac.delivery import scripts as delivery
from celeriac.locks import scripts as locks
from celeriac.policies import scripts as policies
from celeriac.store import keys
from celeriac.store.script import Script

PAGE = Path(__file__).parents[4] / "docs" / "guides" / "delivery.md"
ROLES = ("worker", "producer", "operator")


def documented() -> dict[str, list[str]]:
    """Role -> the rules of `ACL SETUSER` on the page."""
    section = PAGE.read_text().split("## Rights in Redis", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^ACL SETUSER (\w+) (.+)$", section.replace("\\\n", " "), re.MULTILINE)
    return {role: shlex.split(rules) for role, rules in found}


def set_up_users(server: RedisServer) -> dict[str, str]:
    """Role -> URL of the broker with its user."""
    rules = documented()
    assert set(rules) == set(ROLES)
    for role, its in rules.items():
        server.client.execute_command("ACL", "SETUSER", role, *its)
    return {role: f"redis://{role}:secret@127.0.0.1:{server.port}/0" for role in ROLES}


def denied(server: RedisServer) -> list[dict[str, Any]]:
    entries = server.client.acl_log()
    return [{name: it[name] for name in ("username", "reason", "object", "context")} for it in entries]


def exercise(app: Celery) -> list[Any]:
    """Calls of each kind; their results."""
    called = [
        app.send_task("policed.notify", ("u",)),
        app.send_task("policed.flaky", ("u",)),
        app.send_task("policed.crawl", ("site", 0.01)),
        app.send_task("policed.queue_up", ("site", 0.01), countdown=1),
    ]
    return [it.get(timeout=40) for it in called]


def commands_of(*modules: object) -> set[str]:
    """The commands that the scripts of these modules run."""
    scripts = [it.source for module in modules for it in vars(module).values() if isinstance(it, Script)]
    assert scripts
    return {name.lower() for source in scripts for name in re.findall(r"redis\.p?call\('([A-Z]+)'", source)}


@pytest.mark.parametrize(
    ("role", "modules"), [("worker", (delivery, policies, locks)), ("producer", (policies,))], ids=ROLES[:2]
)
def test_every_command_of_a_script_is_among_the_rights(role: str, modules: tuple[object, ...]) -> None:
    """Also of those branches that the tests below do not come to."""
    assert commands_of(*modules) - {it.removeprefix("+") for it in documented()[role]} == set()


@pytest.mark.timeout(170)
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_and_a_producer_with_the_documented_rights_do_everything(
    start_worker: StartWorker, redis_server: RedisServer, pool: str
) -> None:
    urls = set_up_users(redis_server)
    worker = start_worker(
        "policed:app",
        worker={"pool": pool, "concurrency": 4, "extraArgs": ["-E"]},
        delivery={"leaseSeconds": 5, "maxDeliveries": 1},
        environment={"CELERIAC_BROKER_URL": urls["worker"], "CELERIAC_RESULT_BACKEND_URL": urls["worker"]},
    ).until_ready()
    redis_server.client.lpush("celery", "not a message")
    with Celery("producer", broker=urls["producer"], backend=urls["producer"], set_as_current=False) as app:
        try:
            assert len(exercise(app)) == 4
        except CeleryTimeoutError as error:
            raise AssertionError(denied(redis_server), worker.logs()[-3000:]) from error
        assert app.control.inspect(timeout=3, limit=1).ping()
    worker.until(lambda: redis_server.client.xlen(keys.dead("celery")) == 1)
    worker.until(lambda: redis_server.client.exists(keys.workers("default/plain")), what="it reports")
    redis_server.client.client_kill_filter(_type="normal", skipme=True)
    worker.until_logged("Connection to broker lost")
    worker.until_ready()
    worker.terminate()
    assert worker.wait() == 0
    assert denied(redis_server) == []
