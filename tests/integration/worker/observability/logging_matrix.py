"""Set logging up as a worker does, in every combination, and print what was heard in each; run by a test, as a program.

Each combination has a process of its own, forked before anything is set up: Celery sets logging up once in a process.
The output is a JSON list: each combination, and what its process wrote to both of its streams.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.app.log import Logging, TaskFormatter

from celeriac import logs
from celeriac.config import contract

ALWAYS = {"pool": "emails", "namespace": "shop", "pod": "pod-1"}
CONSOLES = ("none", "plain", "airflow", "rich")
FORMATS = (None, "Text", "JSON", "App")


class LooksUpStream(logging.StreamHandler):  # type: ignore[type-arg]  # generic only from Python 3.11 on
    """As Airflow's RedirectStdHandler: the stream is whatever sys.stdout is at the moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stdout


class Prints(logging.Handler):
    """As rich's: writes to the standard output in ways of its own, several times for a record."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.levelname, end=" ")
        print(self.format(record))
        sys.stdout.flush()


def run(console: str, hijack: bool, redirect: bool, chosen: str | None) -> None:
    """Set up, and say one thing of each kind."""
    if console != "none":
        handler = {"plain": logging.StreamHandler, "airflow": LooksUpStream, "rich": Prints}[console]()
        logging.basicConfig(level="INFO", format="%(message)s", handlers=[handler])
    app = Celery("matrix", set_as_current=False)
    app.conf.worker_hijack_root_logger = hijack
    app.conf.worker_redirect_stdouts = redirect
    audit = Path(tempfile.mkdtemp()) / "audit.log"

    def add_audit(logger: logging.Logger, **_: Any) -> None:
        own = logging.FileHandler(audit)
        own.setFormatter(TaskFormatter("AUDIT|%(message)s", use_color=False))
        logger.handlers = [it for it in logger.handlers if not isinstance(it, logging.FileHandler)] + [own]

    signals.after_setup_task_logger.connect(add_audit, weak=False)
    config = contract.Logging(format=chosen)
    logs.install(logs.build_formatter(config, always=ALWAYS, own={}), config, app)
    for _ in range(2):  # as Celery's worker does, and as each child of a prefork pool does again
        Logging._setup = False
        app.log.setup(logging.INFO, None, redirect, "WARNING")
        signals.celeryd_after_setup.send(sender="matrix", instance=None, conf=app.conf)
    logging.getLogger("celery.worker").info("said by celery")
    logging.getLogger("third.party").warning("said by a library")
    logging.getLogger("celery.task.x").info("said by a task")
    print("said by print")
    try:
        raise ValueError("nobody is told")  # noqa: TRY301 - as a task does
    except ValueError:
        logging.getLogger("celery.app.trace").exception("said with a traceback")
    print(f"AUDITED {audit.read_text().strip()}", file=sys.__stdout__, flush=True)


def heard(*combination: Any) -> str:
    """What a process of its own wrote."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            run(*combination)
            sys.__stdout__.flush()  # type: ignore[union-attr]
            os._exit(0)
        os.waitpid(child, 0)
        output.seek(0)
        return output.read()


if __name__ == "__main__":
    combinations = itertools.product(CONSOLES, (False, True), (False, True), FORMATS)
    print(json.dumps([[list(it), heard(*it)] for it in combinations]))
