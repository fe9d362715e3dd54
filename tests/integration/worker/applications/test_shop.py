"""The example shop: its page shows the state of a task, and where the mail and Flower are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

SHOP = Path(__file__).parents[4] / "examples" / "shop"
ASK = """
import json, sys, django
django.setup()
from django.test import Client
client = Client()
method, path, body = sys.argv[1:4]
answer = client.get(path) if method == "GET" else client.post(path, body, content_type="application/json")
print(answer.status_code, answer.content.decode())
"""


def ask(redis_server: RedisServer, method: str, path: str, body: str = "") -> str:
    """What the shop's web process answers, its status first."""
    urls = {"BROKER_URL": redis_server.url, "RESULT_BACKEND_URL": redis_server.url}
    environment = {**os.environ, **urls, "PYTHONPATH": str(SHOP), "DJANGO_SETTINGS_MODULE": "shop.settings"}
    command = [sys.executable, "-c", ASK, method, path, body]
    done = subprocess.run(command, env=environment, cwd=SHOP, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_the_page_follows_a_task_to_its_result(redis_server: RedisServer, start_worker: StartWorker) -> None:
    page = ask(redis_server, "GET", "/")
    assert page.startswith("200 ")
    assert 'href="http://localhost:5555"' in page
    assert 'href="http://localhost:8025/messages"' in page
    assert "/api/results/" in page, "the page asks what became of the task instead of showing the answer to the click"
    started = json.loads(
        ask(redis_server, "POST", "/api/tasks/pack", '{"order": "1001", "seconds": 0}').split(" ", 1)[1]
    )
    start_worker(
        "shop.celery:app",
        worker={"pool": "threads"},
        queues=["shop"],
        environment={"PYTHONPATH": str(SHOP), "DJANGO_SETTINGS_MODULE": "shop.settings"},
    ).until_ready(timeout=90)
    answer = eventually(
        lambda: json.loads(ask(redis_server, "GET", f"/api/results/{started['id']}").split(" ", 1)[1]),
        lambda it: it["state"] == "SUCCESS",
    )
    assert answer["result"] == "1001"
