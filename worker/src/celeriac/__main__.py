"""`python -m celeriac`: the commands of the worker library."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

DESCRIPTION = """\
Celery workers that lose nothing, double nothing and never hang in silence.
"""

WORKER_DESCRIPTION = """\
Run one worker of a pool. In Kubernetes the operator starts it and configures it by environment variables:

  CELERIAC_CONFIG               the pool's document (JSON)
  CELERIAC_BROKER_URL           broker URL; absent: the application's own
  CELERIAC_RESULT_BACKEND_URL   result backend URL; absent: the application's own
  CELERIAC_POD_NAME             names the worker: <pool>@<pod>; absent: the host's name
  CELERIAC_TERMINATION_LOG      where the reason for giving up is written (default /dev/termination-log)

By hand the flags below do; with a document they are laid over it.
"""

WORKER_EPILOG = """\
exit codes:
  0   drained        1  unexpected error (see the log)      64  wrong arguments
  69  the broker stayed away or refused the credentials     78  configuration or application cannot be used

examples:
  python -m celeriac worker --app shop.celery:app
  python -m celeriac worker -A shop.celery -Q emails,default -c 4 -P threads --health-port 9000 -- --without-gossip
"""

DOCTOR_DESCRIPTION = """\
Show every setting of the worker and whose word it is (a task's, the pool's, the application's, Celeriac's or Celery's
default), and what will go wrong with it. Reads the same environment as `worker`; connects to nothing. In a pod:
kubectl exec POD -- python -m celeriac doctor
"""

DOCTOR_EPILOG = """\
exit codes:
  0   no errors, perhaps warnings      1   at least one error      64, 78  as `worker`
"""

INJECT_DESCRIPTION = """\
Copy this library and the pure-Python packages it needs (not Celery) into DIR/lib, and a launcher to DIR/launch.py.
An image with Celery in it then runs as a worker by `python DIR/launch.py worker`; its own packages win over the
copied ones. Run it again at any time: readers see the old copy or the new one, never a half.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(given)
    ours, for_celery = _split(given)
    flags = parser.parse_args(ours)
    if flags.command == "worker":
        return _worker(flags, for_celery)
    if flags.command == "inject":
        return _inject(flags)
    if flags.command == "doctor":
        return _doctor(flags)
    if flags.command == "dead":
        return _dead(flags)
    parser.print_help()
    return 0


def _worker(flags: argparse.Namespace, for_celery: list[str]) -> int:
    from celeriac import bootstrap
    from celeriac.config import standalone
    from celeriac.config.contract import ContractError
    from celeriac.exits import Exit

    try:
        document = standalone.document(os.environ, _keys(flags, for_celery), os.cpu_count() or 1)
    except ContractError as error:
        print(f"celeriac: {error}", file=sys.stderr)
        return int(Exit.USAGE)
    return bootstrap.run(document, os.environ)


def _keys(flags: argparse.Namespace, for_celery: list[str]) -> dict[str, Any]:
    """The flags that were given, as dotted keys of the document."""
    keys = {
        "app": flags.app,
        "queues": flags.queues.split(",") if flags.queues else None,
        "pool.name": flags.name,
        "worker.concurrency": flags.concurrency,
        "worker.pool": flags.pool,
        "logging.level": flags.loglevel,
        "liveness.port": flags.health_port,
        "drain.timeoutSeconds": flags.drain_timeout,
        "worker.extraArgs": for_celery or None,
    }
    return {key: value for key, value in keys.items() if value is not None}


def _inject(flags: argparse.Namespace) -> int:
    from celeriac import inject

    return inject.main(flags.directory)


def _doctor(flags: argparse.Namespace) -> int:
    from celeriac.doctor import command

    return command.main(os.environ, {"app": flags.app} if flags.app else {}, as_json=flags.json)


def _dead(flags: argparse.Namespace) -> int:
    import socket

    from celeriac.config import application, contract, standalone
    from celeriac.delivery import dead
    from celeriac.exits import Exit, GivingUpError

    try:
        environment = contract.parse_environment(os.environ, hostname=socket.gethostname())
        config = contract.parse(standalone.document(os.environ, {"app": flags.app} if flags.app else {}))
        app = application.prepare(config, environment).app
    except contract.ContractError as error:
        print(f"celeriac: {error}", file=sys.stderr)
        return int(Exit.USAGE)
    except GivingUpError as error:
        print(f"celeriac: {error}", file=sys.stderr)
        return int(error.code)
    return dead.main(app, flags.action, flags.entries, queues=flags.queue, as_json=flags.json)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Ours, and what stands behind `--`: for Celery's worker as it is."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m celeriac", description=DESCRIPTION)
    parser.add_argument("--version", action=_Version, help="print the versions of the library and of Celery")
    commands = parser.add_subparsers(dest="command", metavar="command")
    worker = commands.add_parser(
        "worker",
        help="run a Celery worker",
        description=WORKER_DESCRIPTION,
        epilog=WORKER_EPILOG,
        formatter_class=raw,
        usage="python -m celeriac worker [flags] [-- flags of `celery worker`]",
    )
    worker.add_argument("-A", "--app", help="the Celery application, as for `celery -A`")
    worker.add_argument("-Q", "--queues", metavar="A,B", help="queues to consume from (default: the application's)")
    worker.add_argument(
        "-c", "--concurrency", type=int, metavar="N", help="slots (default: the application's, else processors)"
    )
    worker.add_argument(
        "-P", "--pool", help="prefork, threads, gevent, eventlet, solo or custom (default: the application's)"
    )
    worker.add_argument("-n", "--name", help="name of the pool (default: celery)")
    worker.add_argument("-l", "--loglevel", type=str.upper, help="DEBUG, INFO, WARNING, ERROR (default: INFO)")
    worker.add_argument(
        "--health-port", type=int, metavar="PORT", help="/livez /readyz /status /metrics (default: 8787)"
    )
    worker.add_argument(
        "--drain-timeout", type=int, metavar="SECONDS", help="after SIGTERM tasks may run so long (default: 300)"
    )
    inject = commands.add_parser(
        "inject",
        help="copy the library for an image that does not have it",
        description=INJECT_DESCRIPTION,
        formatter_class=raw,
    )
    inject.add_argument("directory", metavar="DIR", help="where to; made if it is not there")
    doctor = commands.add_parser(
        "doctor",
        help="show which settings hold, and what will go wrong",
        description=DOCTOR_DESCRIPTION,
        epilog=DOCTOR_EPILOG,
        formatter_class=raw,
    )
    doctor.add_argument("-A", "--app", help="the Celery application, as for `celery -A` (default: the pool's)")
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of a text")
    dead = commands.add_parser("dead", help="messages that were given up: list, show, requeue, drop")
    if "dead" in given:
        # Only now: it imports redis-py, which a worker must not do before gevent has patched the standard library.
        from celeriac.delivery.dead import add_arguments

        add_arguments(dead)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, *_: Any) -> None:
        from celeriac.installed import version

        print(f"celeriac {version()} (celery {version('celery')}, Python {sys.version.split()[0]})")
        raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
