"""Runs pytest in processes that are forked from one that has imported the libraries already.

Importing them takes longer than most tests, and no deliberate bug is in them. The programs' own modules are imported in
each forked process anew. Orders come as lines of JSON on standard input; each is answered on standard output by a line
when its process has started and a line when it has ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from typing import Any

LIBRARIES = {
    "operator": (
        "pytest",
        "hypothesis",
        "kopf",
        "kubernetes.aio.client",
        "aiohttp",
        "pydantic",
        "redis.asyncio",
        "yaml",
    ),
    "worker": ("pytest", "hypothesis", "celery.app.base", "celery.worker.consumer", "kombu.transport.redis", "redis"),
}
"""What the tests of each program import first."""


def main(program: str) -> None:
    """Serve orders until standard input ends."""
    for name in LIBRARIES[program]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_pytest(order["arguments"], order["output"])
        _say({"started": pid})
        _, status = os.waitpid(pid, 0)
        _say({"code": os.waitstatus_to_exitcode(status)})


def _be_pytest(arguments: list[str], output: str) -> None:
    code = 3  # pytest's own code for an internal error
    try:
        # A group of its own: what a test has started is ended with it.
        os.setsid()
        with open(output, "wb") as file, open(os.devnull, "rb") as nothing:  # noqa: PTH123 -- descriptors are wanted
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        import pytest  # noqa: PLC0415 -- the runner itself has only the standard library

        code = int(pytest.main(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
