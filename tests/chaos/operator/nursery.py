"""Starts operators quickly: a process that has imported the whole operator, and forks one whenever it is asked to.

Each is a process of its own that runs the program's own entry point, and can be killed with SIGKILL at any moment; it
only saves the second that Python takes for the imports. Asked over standard input with one JSON object a line, answers
on standard output. When the campaign ends, however it ends, so do the nursery and all that it has started.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes.aio.config import kube_config
from tests.chaos.operator import life, mutants

import celeriac_operator.__main__ as program

SET_PARENT_DEATH_SIGNAL = 1


def die_with_parent() -> None:
    """Be killed when the parent is gone."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def answer(**words: Any) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())


def be_operator(order: Mapping[str, Any]) -> None:
    """In the child: become the operator. Never returns."""
    code = 70
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["environment"])
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION = os.environ["KUBECONFIG"]  # read when it was imported
        life.shorten_waits()
        if order["mutant"]:
            mutants.MUTANTS[order["mutant"]].apply()
        code = program.main([])
    except BaseException as error:
        print(f"the operator ended with {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def serve() -> None:
    """Fork on demand, report ends, until standard input is closed."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the campaign decides
    gc.collect()
    gc.freeze()  # the children share what is there now
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer)
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(reader, selectors.EVENT_READ)
    rest = b""
    while True:
        for key, _ in waiting.select():
            data = os.read(key.fd, 65536)
            if key.fd == reader:
                report_ends()
            elif not data:
                return
            else:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    fork(json.loads(line))


def fork(order: Mapping[str, Any]) -> None:
    pid = os.fork()
    if pid == 0:
        be_operator(order)
    answer(started=order["id"], pid=pid)


def report_ends() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        answer(ended=pid, code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    serve()
