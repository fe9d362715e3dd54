"""A receiver of Slack's incoming webhooks, for tests: keeps messages, and can be told to refuse them.

It speaks the protocol as Slack documents it: POST of a JSON object with `text` to the webhook's path is answered by
200 and `ok`; an unknown path by 404 and `no_service`; a body that is none by 400 and `invalid_payload`; too many
messages by 429 and `Retry-After`. Standard library only.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/services/T0/B0/sesame"


@dataclass(frozen=True)
class Refusal:
    """What a request gets instead of being taken."""

    status: int
    word: str
    retry_after: str = ""
    location: str = ""


class SlackReceiver(ThreadingHTTPServer):
    """The server; `refusals` are given to the next requests, one each, and `standing` to all after them."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.messages: list[str] = []
        self.attempts = 0
        self.refusals: deque[Refusal] = deque()
        self.standing: Refusal | None = None
        self.refused_text, self.refused_status = "", 400
        """A message that has this text is refused with this status, each time."""
        self.silent = threading.Event()
        """While it is set a request is taken in and never answered."""
        self.webhook = f"http://127.0.0.1:{self.server_port}{PATH}"


class _Handler(BaseHTTPRequestHandler):
    server: SlackReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.attempts += 1
        if self.server.silent.is_set():
            self.rfile.read(1)  # until the other side gives up
            return
        refusal = self.server.refusals.popleft() if self.server.refusals else self.server.standing
        if refusal is None and self.path != PATH:
            refusal = Refusal(404, "no_service")
        text = _text(self.headers.get("Content-Type", ""), body)
        if refusal is None and text is None:
            refusal = Refusal(400, "invalid_payload")
        if refusal is None and text is not None and self.server.refused_text and self.server.refused_text in text:
            refusal = Refusal(self.server.refused_status, "msg_refused")
        if refusal is not None:
            self._answer(refusal)
            return
        assert text is not None
        self.server.messages.append(text)
        self._answer(Refusal(200, "ok"))

    def _answer(self, answer: Refusal) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer.word)))
        if answer.retry_after:
            self.send_header("Retry-After", answer.retry_after)
        if answer.location:
            self.send_header("Location", answer.location)
        self.end_headers()
        self.wfile.write(answer.word.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Nothing: the test looks at what was received."""


def _text(content_type: str, body: bytes) -> str | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    text = value.get("text") if isinstance(value, dict) and content_type.startswith("application/json") else None
    return text if isinstance(text, str) and text else None
