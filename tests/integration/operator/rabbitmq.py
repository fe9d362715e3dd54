"""A RabbitMQ of one's own from Debian's package: loopback only, free ports, all data in one directory."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.integration.worker.processes import free_port
from tests.waiting import eventually

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""The package's own scripts: the ones on PATH change to a user of the system's service."""


class RabbitMQServer:
    """One node with the management API. `admin` may do everything, also through the API."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.management_port, epmd_port, distribution_port = (free_port() for _ in range(4))
        self.management = f"http://127.0.0.1:{self.management_port}"
        config = directory / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            "default_user = admin\ndefault_pass = admin-word\nlog.console.level = error\n"
            "collect_statistics_interval = 500\n"  # by default 5 s, which every test would wait for
        )
        plugins = directory / "enabled_plugins"
        plugins.write_text("[rabbitmq_management].\n")
        self.environment = {
            **os.environ,
            "HOME": str(directory),  # Erlang's cookie
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._epmd_port = epmd_port
        self._processes: list[subprocess.Popen[bytes]] = []

    def url(self, user: str = "admin", password: str = "admin-word", virtual_host: str = "") -> str:  # noqa: S107 -- made up
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{virtual_host}"

    def start(self) -> RabbitMQServer:
        # Erlang's own port mapper would be started by the node and outlive it.
        self._start("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._start(str(PROGRAMS / "rabbitmq-server"))
        eventually(self._answers, timeout=150, every=0.2, what="RabbitMQ answers")  # 5 s; far more on a busy machine
        return self

    def _start(self, *command: str) -> None:
        with (self.directory / "output").open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=self.environment,
                    cwd=self.directory,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def stop(self) -> None:
        """End it and all that it started."""
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def request(self, method: str, path: str, document: Any = None) -> Any:
        """Ask the management API as admin."""
        request = urllib.request.Request(  # noqa: S310 -- the test's own server
            f"{self.management}/api/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(b"admin:admin-word").decode(),
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- ditto
            text = answer.read()
        return json.loads(text) if text else None

    def _answers(self) -> bool:
        assert all(it.poll() is None for it in self._processes), (self.directory / "output").read_text()[-3000:]
        with contextlib.suppress(OSError, urllib.error.URLError):
            return bool(self.request("GET", "overview"))
        return False
