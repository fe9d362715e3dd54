"""The scan of dependencies asks an OSV service, here one on loopback that knows of one vulnerability."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from localcluster.paths import CHECKOUT

KNOWN = {
    "id": "TEST-1",
    "modified": "2026-01-01T00:00:00Z",
    "summary": "made up",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "redis"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
        }
    ],
}


class Advisories(ThreadingHTTPServer):
    """What is vulnerable, and which packages were asked about."""

    def __init__(self, vulnerable: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.vulnerable = vulnerable
        self.asked: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: Advisories

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        names = [query["package"]["name"] for query in queries]
        self.server.asked.update(names)
        found = {"vulns": [{"id": KNOWN["id"], "modified": KNOWN["modified"]}]}
        self._say({"results": [found if name == self.server.vulnerable else {} for name in names]})

    def do_GET(self) -> None:
        self._say(KNOWN)

    def _say(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def advisories(request: pytest.FixtureRequest) -> Iterator[Advisories]:
    with Advisories(request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def scan(advisories: Advisories) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{advisories.server_port}/"
    uv = str(CHECKOUT / ".venv/uv/bin/uv")
    command = [CHECKOUT / "tools/scan", "--only", "dependencies", "--uv", uv, "--advisories", url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("advisories", ["redis"], indirect=True)
def test_a_vulnerable_dependency_is_found_in_every_lock_that_has_it(advisories: Advisories):
    done = scan(advisories)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "worker/requirements.lock:" in done.stdout
    assert KNOWN["id"] in done.stdout
    assert {"kopf", "celery", "uv"} <= advisories.asked, "each program's and the tools' dependencies"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("advisories", ["nobody-has-this"], indirect=True)
def test_nothing_is_found_where_nothing_is_known(advisories: Advisories):
    done = scan(advisories)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no known vulnerability in" in done.stdout
