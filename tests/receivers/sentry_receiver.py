"""A receiver of Sentry's envelope protocol, for tests and demonstrations: keeps events and gives them back as JSON.

    python sentry_receiver.py --port 8000          DSN: http://public@HOST:8000/1

    POST   /api/<project>/envelope/    what the SDKs send
    POST   /api/<project>/store/       what old SDKs send
    GET    /api/events                 the events received so far, oldest first (also as /events)
    GET    /api/transactions           the transactions
    DELETE /api/events                 forget all of them
    GET    /health                     200

Standard library only, one file, nothing written to disk: it runs in a container with a read-only root. The oldest
are dropped beyond KEPT of a kind.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import signal
import sys
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEPT = 1000


class Received:
    """What has been received, by kind (`event`, `transaction`); safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[str, deque[Any]] = {}

    def add(self, kind: str, item: Any) -> None:
        with self._lock:
            self._items.setdefault(kind, deque(maxlen=KEPT)).append(item)

    def all(self, kind: str) -> list[Any]:
        with self._lock:
            return list(self._items.get(kind, ()))

    def clear(self) -> None:
        with self._lock:
            self._items.clear()


def parse_envelope(body: bytes) -> Iterator[tuple[str, Any]]:
    """The items of an envelope, each as (type, payload); payloads that are not JSON are left out.

    An envelope is a header line, then items: a header line with a type and maybe a length, and the payload, which is
    `length` bytes long or ends with the line.
    """
    _, _, rest = body.partition(b"\n")
    while rest:
        line, _, rest = rest.partition(b"\n")
        if not line.strip():
            continue
        header = json.loads(line)
        length = header.get("length")
        if length is None:
            payload, _, rest = rest.partition(b"\n")
        else:
            payload, rest = rest[:length], rest[length:].removeprefix(b"\n")
        try:
            yield str(header.get("type")), json.loads(payload)
        except ValueError:
            continue  # an attachment, a replay


def decompress(body: bytes, encoding: str) -> bytes:
    """Undo what Content-Encoding says."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding:
        raise ValueError(f"content encoding {encoding} is not known here")
    return body


class Receiver(ThreadingHTTPServer):
    """The server, with what it has received."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), Handler)
        self.received = Received()


class Handler(BaseHTTPRequestHandler):
    """Speaks Sentry's paths."""

    server: Receiver
    protocol_version = "HTTP/1.1"  # the SDKs keep their connection open

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].rstrip("/")
        try:
            body = decompress(body, self.headers.get("Content-Encoding", ""))
            if path.endswith("/envelope"):
                for kind, item in parse_envelope(body):
                    self.server.received.add(kind, item)
            elif path.endswith("/store"):
                self.server.received.add("event", json.loads(body))
            else:
                self._answer(404, {"detail": "POST to /api/<project>/envelope/"})
                return
        except (ValueError, OSError, zlib.error) as error:
            self._answer(400, {"detail": f"unreadable: {error}"})
            return
        self._answer(200, {})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path in {"/api/events", "/events"}:
            self._answer(200, self.server.received.all("event"))
        elif path == "/api/transactions":
            self._answer(200, self.server.received.all("transaction"))
        elif path in {"", "/health"}:
            self._answer(200, {"events": len(self.server.received.all("event"))})
        else:
            self._answer(404, {"detail": "GET /api/events or /api/transactions"})

    def do_DELETE(self) -> None:
        self.server.received.clear()
        self._answer(200, {})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        sys.stdout.write(f"{self.address_string()} {format % args}\n")
        sys.stdout.flush()


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="Receive Sentry envelopes and give the events back as JSON.")
    parser.add_argument("--host", default="", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=8000, help="port (default: 8000)")
    flags = parser.parse_args()
    server = Receiver(flags.host, flags.port)
    # Process 1 of a container gets no default action for SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stdout.write(f"DSN: http://public@HOST:{server.server_port}/1 - events: GET /api/events\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
