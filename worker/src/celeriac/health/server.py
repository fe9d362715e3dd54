"""How does the worker answer /livez, /readyz, /status and /metrics?

The health server runs in threads of the worker's parent process, with the standard library only. It answers from
memory: it does not use the broker or a lock that the worker holds. A stopped process (SIGSTOP, a frozen cgroup) or an
interpreter that never releases the GIL cannot answer, so the probe times out and fails, as it should. Children of a
prefork pool close the server's sockets right after the fork, so that no orphan keeps the port.

A client of the port can use only few resources of the worker. At most `MOST_CONNECTIONS` connections are open; one more
closes the oldest. Each connection is closed after `REQUEST_TIMEOUT_SECONDS`, however slowly its request arrives. One
file descriptor is kept in reserve, so that probes are answered even if the application has used up all others.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

from celeriac.exits import Exit, GivingUpError
from celeriac.health import rules
from celeriac.health.recent import RecentWork
from celeriac.health.rules import Observed, Running
from celeriac.printable import printable

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_SECONDS: Final = 10.0
"""A connection is closed after this time, whatever it has sent by then."""
MOST_TASKS: Final = 500
"""Running tasks that /status lists. A pool of green threads may run thousands."""
MOST_CONNECTIONS: Final = 16
"""Maximum number of open connections. Probes, a scraper and a person need three."""


class HealthServer:
    """Answers probes until it is stopped. Starting or stopping it twice has no effect.

    Args:
        port: TCP port, on all addresses of the pod; 0 means any free port, which `port` shows after the start.
        observe: returns the state of the worker; called for each request.
        recent: returns what has ended in the last 15 minutes; called for each request of /status.
        describe: names and versions that /status adds.
        metrics: returns the body of /metrics and its content type.
    """

    def __init__(
        self,
        port: int,
        observe: Callable[[], Observed],
        recent: Callable[[], RecentWork],
        describe: dict[str, Any],
        metrics: Callable[[], tuple[bytes, str]],
    ) -> None:
        self.port = port
        self.observe = observe
        self.recent = recent
        self.describe = describe
        self.metrics = metrics
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Start to listen.

        Raises:
            GivingUpError: the port is in use or not permitted.
        """
        if self._server is not None:
            return
        try:
            server = _Server(("", self.port), _handler(self))
        except OSError as error:
            hint = (
                ": if another worker runs here, give this one a port of its own, or any free one by --health-port 0"
                if error.errno == errno.EADDRINUSE
                else ""
            )
            raise GivingUpError(
                f"The health server cannot listen on port {self.port} (liveness.port): {error.strerror}{hint}",
                Exit.CONFIGURATION,
            ) from None
        self._server = server
        if self.port == 0:
            self.port = server.server_port
        threading.Thread(target=server.serve_forever, name="celeriac-health", daemon=True).start()
        os.register_at_fork(after_in_child=server.close_in_child)

    def stop(self) -> None:
        """Stop answering and free the port."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def livez(self) -> tuple[int, str]:
        """Status and text of the liveness probe."""
        return _verdict(rules.broken(rules.LIVENESS, self.observe()))

    def readyz(self) -> tuple[int, str]:
        """Status and text of the readiness probe."""
        return _verdict(rules.broken(rules.READINESS, self.observe()))

    def status(self) -> dict[str, Any]:
        """The content of /status: names, numbers and ages in seconds, but never a task's arguments.

        Names and ids come from messages: they are cut, and at most `MOST_TASKS` running tasks are listed, the oldest
        first.
        """
        seen = self.observe()
        running = sorted(seen.running, key=lambda task: -task.seconds)
        stuck = [task for task in running if rules.is_stuck(task)]
        return {
            **self.describe,
            "alive": not rules.broken(rules.LIVENESS, seen),
            "ready": not rules.broken(rules.READINESS, seen),
            "reasons": rules.broken(rules.LIVENESS, seen) + rules.broken(rules.READINESS, seen),
            "busy": len(seen.running),
            **{key: _rounded(value) for key, value in asdict(replace(seen, running=())).items()},
            "running": [_shown(task) for task in running[:MOST_TASKS]],
            "work": {
                "oldest": _shown(running[0]) if running else None,
                "stuck": len(stuck),
                "stuck_task": _shown(stuck[0]) if stuck else None,
                **_rounded(asdict(self.recent())),
            },
        }


class Connections:
    """The open connections of the server, oldest first. Their number and duration are limited. Thread-safe."""

    def __init__(self) -> None:
        self._since: dict[socket.socket, float] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._since)

    def add(self, connection: socket.socket, now: float) -> None:
        """Note a new connection."""
        with self._lock:
            self._since[connection] = now

    def remove(self, connection: socket.socket) -> None:
        """Forget a connection that is being closed."""
        with self._lock:
            self._since.pop(connection, None)

    def make_room(self, now: float) -> None:
        """Close the oldest connections until there is room for one more."""
        self.end_old(now)
        while len(self._since) >= MOST_CONNECTIONS:
            self._end_oldest()

    def end_old(self, now: float) -> None:
        """Close the connections that have been open for too long."""
        while (since := self._oldest_since()) is not None and now - since > REQUEST_TIMEOUT_SECONDS:
            self._end_oldest()

    def forget(self) -> list[socket.socket]:
        """Forget all connections without closing them. Called in a child, so it must not wait for the copied lock."""
        connections, self._since = list(self._since), {}
        return connections

    def _oldest_since(self) -> float | None:
        with self._lock:  # a thread that ends removes its connection at any time
            return next(iter(self._since.values()), None)

    def _end_oldest(self) -> None:
        with self._lock:
            oldest = next(iter(self._since), None)
            if oldest is not None:
                del self._since[oldest]
        if oldest is not None:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread then reads the end of the stream, and closes it


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET  # IPv6-only clusters exist
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        self.connections = Connections()
        self._reserve: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        super().__init__(*args)

    def get_request(self) -> tuple[Any, Any]:
        self.connections.make_room(time.monotonic())
        try:
            request, address = super().get_request()
        except OSError:
            # Only the reserve descriptor is left. It is opened again when a connection has been closed.
            self._release_reserve()
            request, address = super().get_request()
        self.connections.add(request, time.monotonic())
        return request, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.remove(request)
        super().shutdown_request(request)
        self._restore_reserve()

    def service_actions(self) -> None:
        self.connections.end_old(time.monotonic())

    def server_close(self) -> None:
        super().server_close()
        self._release_reserve()

    def close_in_child(self) -> None:
        """Close the inherited sockets in a child, without closing the parent's connections."""
        self.socket.close()
        for connection in self.connections.forget():
            with contextlib.suppress(OSError):
                os.close(connection.detach())

    def _release_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            os.close(reserve)

    def _restore_reserve(self) -> None:
        if self._reserve is None:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def server_bind(self) -> None:
        # HTTPServer looks up the host's own name here, which blocks for seconds if DNS does not answer.
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        # Called in an exception handler. A probe that closes its connection early is not worth a warning.
        logger.debug("health server: request from %s failed", client_address, exc_info=sys.exc_info())


def _handler(health: HealthServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_SECONDS
        server_version = "celeriac"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/livez":
                self._text(*health.livez())
            elif path == "/readyz":
                self._text(*health.readyz())
            elif path == "/status":
                self._send(200, json.dumps(health.status()).encode(), "application/json")
            elif path == "/metrics":
                self._send(200, *health.metrics())
            else:
                self._text(404, "there are /livez, /readyz, /status and /metrics")

        do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

        def _text(self, status: int, text: str) -> None:
            self._send(status, f"{text}\n".encode(), "text/plain; charset=utf-8")

        def _send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes are not logged."""

    return Handler


def _verdict(reasons: list[str]) -> tuple[int, str]:
    return (503, "; ".join(reasons)) if reasons else (200, "ok")


def _shown(task: Running) -> dict[str, Any]:
    return {**_rounded(asdict(task)), "name": printable(task.name), "id": printable(task.id)}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(it) for key, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(it) for it in value]
    return round(value, 3) if isinstance(value, float) else value
