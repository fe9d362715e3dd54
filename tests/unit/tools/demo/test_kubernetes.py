"""The cluster is asked through a socket; its errors and its 'later' are understood."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from demo.kubernetes import CommandError, HttpError, Kube, Programs, condition_of, restarts


class Server(socketserver.UnixStreamServer):
    """Answers each request with the next of the prepared answers."""

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.answers: list[tuple[int, dict[str, str], object]] = []
        self.asked: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        # A client sends its body after the headers; answered and closed before that, it would get a broken pipe.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, document = self.server.answers.pop(0)
        self.server.asked.append((self.command, self.path))
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""

    def address_string(self) -> str:
        return "a socket"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(str(tmp_path / "api.sock")) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def kube(server: Server) -> Kube:
    return Kube(Programs({}), str(server.server_address), "here")


def test_a_service_is_asked_by_get_and_given_a_body_by_post(server: Server, kube: Kube):
    server.answers = [(200, {}, [1]), (202, {}, {"id": "x"})]
    assert kube.service("shop:http", "catalogue") == [1]
    assert kube.service("shop:http", "api/tasks/notify", {"email": "a@b"}) == {"id": "x"}
    prefix = "/api/v1/namespaces/here/services/shop:http/proxy"
    assert server.asked == [("GET", f"{prefix}/catalogue"), ("POST", f"{prefix}/api/tasks/notify")]


def test_an_error_carries_its_status_and_what_was_said(server: Server, kube: Kube):
    server.answers = [(404, {}, {"message": "no such pool"})]
    with pytest.raises(HttpError, match="no such pool") as raised:
        kube.pool("missing")
    assert raised.value.status == 404


def test_a_server_that_says_later_is_asked_again(server: Server, kube: Kube):
    server.answers = [(429, {"Retry-After": "0"}, {}), (200, {}, {"kind": "Pool"})]
    assert kube.pool("new") == {"kind": "Pool"}


def test_a_server_that_says_too_much_without_a_time_is_an_error(server: Server, kube: Kube):
    server.answers = [(429, {}, {})]
    with pytest.raises(HttpError, match="429"):
        kube.pool("new")


def test_pods_that_are_leaving_do_not_count(server: Server, kube: Kube):
    leaving = {"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    server.answers = [(200, {}, {"items": [leaving, {"metadata": {"name": "c"}}, {"metadata": {"name": "b"}}]})]
    assert [pod["metadata"]["name"] for pod in kube.pods("app%3Dx")] == ["b", "c"]


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(CommandError, match="there is no kubectl on the path"):
        Programs({"PATH": "/nowhere"}).run(["kubectl", "version"])


def test_a_command_that_fails_is_quoted():
    with pytest.raises(CommandError, match=r"ended with 3: what went wrong") as raised:
        Programs().run(["sh", "-c", "echo what went wrong >&2; exit 3"])
    assert raised.value.said == "what went wrong"


@pytest.mark.parametrize(
    ("status", "is_current"),
    [
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]}, True, id="its own"
        ),
        pytest.param({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}, False, id="older"),
        pytest.param(
            {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}, True, id="the status' own"
        ),
        pytest.param({}, False, id="no condition yet"),
    ],
)
def test_a_condition_is_current_when_it_speaks_of_the_newest_generation(status, is_current):
    assert condition_of({"metadata": {"generation": 2}, "status": status}, "Ready").is_current is is_current


def test_restarts_are_counted_for_each_container():
    states = [{"name": "worker", "restartCount": 2}, {"name": "side", "restartCount": 0}]
    pods = [{"metadata": {"name": "p"}, "status": {"containerStatuses": states}}, {"metadata": {"name": "new"}}]
    assert restarts(pods) == {"p/worker": 2, "p/side": 0}
