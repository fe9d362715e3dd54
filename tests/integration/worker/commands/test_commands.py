"""Every command of every page runs in a worker's environment, with the library in the image and with it injected."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from celery import Celery
from tests import pages
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess, eventually

from celeriac.exits import Exit
from celeriac.store import keys

SHOP = """
from celery import Celery
app = Celery("shop")
app.conf.task_default_queue = "emails"
@app.task
def send(): ...
"""
MY_APP = """
from celery import Celery
app = Celery("my_app")
@app.task(name="my_app.tasks.hello")
def hello(): ...
"""
CODE = re.compile(r"`([^`\n]+)`")
EXEC = re.compile(r"^kubectl .*\bexec .* -- (.*)$")
OURS = ("celeriac ", "celery ")
A_NAME = {"celeriac dead", "celeriac worker", "celery worker", "celery beat", "celery inspect", "celery -A"}
"""Commands without their arguments, as sentences name them."""


@dataclass(frozen=True)
class Mode:
    """A worker's container: what a command typed into it finds."""

    environment: Mapping[str, str]
    worker: WorkerProcess
    shop: Path

    def run(self, command: str, **more: str) -> subprocess.CompletedProcess[str]:
        words = shlex.split(command, comments=True)
        environment = {**self.environment, **more}
        return subprocess.run(
            words, env=environment, cwd=self.shop, capture_output=True, text=True, timeout=120, check=False
        )


def written_commands() -> list[str]:
    """The commands of the pages: what a reader types on a machine or into a pod, each once."""
    found: dict[str, None] = {}
    for page in sorted(
        [*pages.DOCS.rglob("*.md"), pages.DOCS.parent / "README.md", *pages.DOCS.parent.glob("*/README.md")]
    ):
        text = page.read_text()
        lines = [it.removeprefix(pages.PROMPT) for it in text.splitlines() if it.startswith(pages.PROMPT)]
        for words in [*lines, *CODE.findall(text)]:
            inside = EXEC.match(words)
            command = inside[1] if inside else words
            if command.startswith(OURS) and (inside or command not in A_NAME):
                found[command] = None
    return sorted(found, key=lambda it: (" drop " in it, " requeue " in it, it))


COMMANDS = written_commands()


@pytest.fixture(params=["Always", "Never"])
def mode(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    volume: Path,
    image: Path,
    redis_server: RedisServer,
    start_worker: StartWorker,
) -> Mode:
    shop = tmp_path / "app"
    for package, source in (("shop", SHOP), ("my_app", MY_APP)):
        (shop / package).mkdir(parents=True)
        (shop / package / "__init__.py").touch()
        (shop / package / "celery.py").write_text(source)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    if request.param == "Always":
        # Mounted there by the operator: the file itself, elsewhere than the folder that it starts.
        (binaries / "celeriac").write_bytes((volume / "celeriac").read_bytes())
        (binaries / "celeriac").chmod(0o755)
        # An application whose broker is Redis has installed redis-py beside Celery.
        start = f"PYTHONPATH={image}:{shop}:{volume / 'lib'} exec {sys.executable} -S -m celery"
        (binaries / "celery").write_text(f'#!/bin/sh\n{start} "$@"\n')
        (binaries / "celery").chmod(0o755)
        path, python = [binaries, Path("/usr/bin"), Path("/bin")], str(image)
        command = [sys.executable, "-S", str(volume / "launch.py"), "worker"]
    else:
        path, python = [Path(sys.executable).parent, Path("/usr/bin"), Path("/bin")], ""
        command = [sys.executable, "-m", "celeriac", "worker"]
    urls = {"CELERY_BROKER_URL": redis_server.url, "CELERY_RESULT_BACKEND": redis_server.url}
    environment = {**urls, "PATH": ":".join(map(str, path)), "PYTHONPATH": f"{python}:{shop}"}
    worker = start_worker(
        "shop.celery:app", worker={"pool": "threads"}, environment=environment, command=command, queues=["emails"]
    ).until_ready()
    return Mode(environment={**worker.environment}, worker=worker, shop=shop)


def test_the_pages_have_commands() -> None:
    assert any(it.startswith("celeriac doctor") for it in COMMANDS)
    assert any(it.startswith("celeriac dead list") for it in COMMANDS)
    assert any(it.startswith("celery ") for it in COMMANDS)


@pytest.mark.timeout(600)  # about forty commands, each of which starts Python
def test_every_command_of_every_page_runs(mode: Mode, redis_server: RedisServer, producer: Celery) -> None:
    """One worker for all of them: each takes a second, and a pod more."""
    entry = give_up_a_message(producer, redis_server)
    for command in COMMANDS:
        if command.startswith("celeriac worker"):
            started(mode, command)
            continue
        typed = command.replace("ID", entry)
        typed = re.sub(r"my-tasks@\S+", f"{mode.worker.status()['node']}", typed)
        done = mode.run(typed)
        assert done.returncode == 0, f"$ {typed}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr


def give_up_a_message(producer: Celery, redis_server: RedisServer) -> str:
    """Put a message where a worker puts one that was delivered too often; the entry's id."""
    sent = producer.send_task("shop.celery.send", queue="parked")
    message = redis_server.client.rpop("parked")
    fields = {
        "queue": "emails",
        "task": "shop.celery.send",
        "id": sent.id,
        "why": "a test",
        "at": "0",
        "message": message,
    }
    return str(redis_server.client.xadd(keys.dead("emails"), fields))


def started(mode: Mode, command: str) -> None:
    """A documented worker by hand, on any port, until it is ready."""
    without = {name: it for name, it in mode.environment.items() if not name.startswith("CELERIAC")}
    log = mode.shop / "by-hand.log"
    words = [*shlex.split(command, comments=True), "--health-port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=without, cwd=mode.shop, stdout=output, stderr=output, start_new_session=True
        )
    try:
        eventually(log.read_text, lambda it: "ready." in it, what=f"$ {command}")
    finally:
        process.terminate()
        assert process.wait(60) == Exit.OK


@pytest.mark.parametrize("mode", ["Never"], indirect=True)
def test_without_redis_a_command_is_one_sentence(mode: Mode) -> None:
    away = mode.run("celeriac dead list", CELERIAC_BROKER_URL="redis://:secret@127.0.0.1:9/0")
    assert away.returncode == Exit.BROKER
    assert re.fullmatch(r"celeriac: The broker redis://\*\*@127\.0\.0\.1:9/0 cannot be reached: .+\n", away.stderr)
    assert "secret" not in away.stderr + away.stdout
