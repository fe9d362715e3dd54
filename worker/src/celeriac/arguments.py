"""The command line of `celeriac`: the arguments and what they mean.

`celeriac worker` accepts the arguments of `celery worker`. If the pool's document has a key for a flag, the flag sets
that key, so that it has the same effect and the same checks as in a pool. The other flags are passed to Celery
unchanged, except for the few that cannot work here: those are refused with an explanation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from celeriac.exits import Exit

DESCRIPTION = """\
Celery workers that lose nothing, double nothing and never hang in silence.
"""

WORKER_DESCRIPTION = """\
Run one worker. It takes the flags of `celery worker`, and a few of its own. On your machine:

  celeriac worker --app shop.celery:app

In Kubernetes the operator starts the worker and configures it by environment variables:

  CELERIAC_CONFIG               the pool's configuration (a JSON document)
  CELERIAC_BROKER_URL           broker URL (default: the application's)
  CELERIAC_RESULT_BACKEND_URL   result backend URL (default: the application's)
  CELERIAC_POD_NAME             names the worker: <pool>@<pod> (default: the host's name)
  CELERIAC_TERMINATION_LOG      file for the reason of an early exit (default: /dev/termination-log)

Flags override the document.
"""

WORKER_EPILOG = """\
All other flags of `celery worker` are passed to Celery: -B, --autoscale, -E, --max-tasks-per-child, and so on.

exit codes:
  0   drained                           1   unexpected error (see the log)
  64  wrong arguments                   69  the broker could not be reached, or refused the credentials
  74  a result could not be stored      78  the configuration or the application cannot be used

examples:
  celeriac worker --app shop.celery:app
  celeriac worker -A shop -Q emails,default -c 4 -P threads -l debug
  celeriac worker -A shop -B --health-port 0
"""

DOCTOR_DESCRIPTION = """\
Show every setting of the worker, where its value comes from (a task, the pool, the application, Celeriac's or Celery's
default), and what will go wrong with it. It reads the same environment as `worker` and connects to nothing. In a pod:

  kubectl exec deployment/POOL -- celeriac doctor
"""

DOCTOR_EPILOG = """\
exit codes:
  0   no errors, perhaps warnings      1   at least one error      64, 78  as for `worker`
"""

INJECT_DESCRIPTION = """\
Copy this library and the pure-Python packages it needs (not Celery) into DIR/lib, a launcher to DIR/launch.py, and a
command to DIR/celeriac. An image with Celery in it then runs as a worker by `python DIR/launch.py worker`; its own
packages are preferred to the copied ones. The command may be repeated at any time: a reader sees the old copy or the
new one, never a part of one.
"""

POOL_ALIASES: Final = {"processes": "prefork"}
LEVEL_ALIASES: Final = {"FATAL": "CRITICAL"}
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")

BY_VARIABLE: Final = {
    "broker": "CELERIAC_BROKER_URL",
    "result_backend": "CELERIAC_RESULT_BACKEND_URL",
    "loader": "CELERY_LOADER",
    "config": "CELERY_CONFIG_MODULE",
}
"""Celery's flags whose value a process gets by an environment variable."""

REFUSED: Final = {
    ("-D", "--detach"): "the worker stays in the foreground, where its supervisor (systemd, a container, a shell's &) "
    "can see it end",
    ("--executable",): "it names the program of a detached worker, and the worker stays in the foreground",
    ("--prefetch-multiplier",): "set worker_prefetch_multiplier in the application, or worker.prefetch in the pool",
}
"""Celery's flags that cannot work here, and what to do instead."""


USAGE: Final = int(Exit.USAGE)


class Parser(argparse.ArgumentParser):
    """argparse's, with the exit code for wrong arguments that all commands have."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"celeriac: {message}\n")


class UsageError(Exception):
    """The arguments cannot be used; the text names them and gives the reason."""


def parse(given: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The arguments of one command, and those of `worker` that are Celery's.

    Raises:
        SystemExit: argparse has printed what is wrong, or the help that was asked for.
        UsageError: a flag of Celery's cannot hold here.
    """
    ours, behind = _split(given)
    flags, unknown = build_parser(given).parse_known_args(ours)
    if unknown and flags.command != "worker":
        build_parser(given).error(f"unrecognized arguments: {' '.join(unknown)}")
    for_celery = [*unknown, *behind]
    refuse(for_celery)
    return flags, for_celery


def refuse(for_celery: Sequence[str]) -> None:
    """Name the flag that cannot hold here.

    Raises:
        UsageError: there is one.
    """
    for argument in for_celery:
        for names, reason in REFUSED.items():
            if argument.partition("=")[0] in names:
                raise UsageError(f"{argument.partition('=')[0]} cannot be used here: {reason}")


def document_keys(flags: argparse.Namespace, for_celery: Sequence[str]) -> dict[str, Any]:
    """The flags that were given, as dotted keys of the pool's document."""
    name = flags.name.partition("@")[0] if flags.name else None
    keys = {
        "app": flags.app,
        "queues": flags.queues,
        "pool.name": name,
        "worker.concurrency": flags.concurrency,
        "worker.pool": POOL_ALIASES.get(flags.pool, flags.pool),
        "worker.prefetch": 0 if flags.disable_prefetch else None,
        "logging.level": LEVEL_ALIASES.get(flags.loglevel, flags.loglevel),
        "liveness.port": flags.health_port,
        "drain.timeoutSeconds": flags.drain_timeout,
        "worker.extraArgs": list(for_celery) or None,
    }
    return {key: value for key, value in keys.items() if value is not None}


def variables(flags: argparse.Namespace, hostname: str) -> dict[str, str]:
    """The environment variables that flags stand for."""
    found = {name: getattr(flags, flag) for flag, name in BY_VARIABLE.items() if getattr(flags, flag)}
    host = flags.name.partition("@")[2] if flags.name else ""
    if host:
        short, _, domain = hostname.partition(".")
        for code, value in (("%h", hostname), ("%n", short), ("%d", domain)):
            host = host.replace(code, value)
        found["CELERIAC_POD_NAME"] = host
    if flags.skip_checks:
        found["CELERY_SKIP_CHECKS"] = "true"
    return found


def build_parser(given: Sequence[str] = ()) -> Parser:
    """The parser of every command; `given` are the arguments, for what is only loaded when it is needed."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="celeriac", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, help="print the versions of the library and of Celery")
    parser.add_argument("-A", "--app", help=argparse.SUPPRESS)  # where `celery` takes it: before the command
    commands = parser.add_subparsers(dest="command", metavar="command")
    _add_worker(commands, raw)
    inject = commands.add_parser(
        "inject",
        help="copy the library for an image that does not have it",
        description=INJECT_DESCRIPTION,
        formatter_class=raw,
    )
    inject.add_argument("directory", metavar="DIR", help="destination; it is created if it does not exist")
    inject.add_argument(
        "--python",
        action="append",
        metavar="WORD",
        help="command and arguments that start Python in the image, one each time, for DIR/celeriac (default: python3)",
    )
    doctor = commands.add_parser(
        "doctor",
        help="show the settings that apply, and what will go wrong",
        description=DOCTOR_DESCRIPTION,
        epilog=DOCTOR_EPILOG,
        formatter_class=raw,
    )
    _add_app(doctor, "the Celery application, as for `celery -A` (default: the pool's)")
    doctor.add_argument("-Q", "--queues", metavar="A,B", type=_names, help="examine it as a worker of these queues")
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of a text")
    dead = commands.add_parser("dead", help="dead-lettered messages: list, show, requeue, drop")
    if "dead" in given:
        # Only now: it imports redis-py, which a worker must not do before gevent has patched the standard library.
        from celeriac.delivery.dead import add_arguments

        add_arguments(dead)
    return parser


def _add_worker(commands: Any, raw: type[argparse.HelpFormatter]) -> None:
    worker = commands.add_parser(
        "worker",
        help="run a Celery worker",
        description=WORKER_DESCRIPTION,
        epilog=WORKER_EPILOG,
        formatter_class=raw,
        usage="celeriac worker [flags]",
        allow_abbrev=False,
    )
    _add_app(worker, "the Celery application, as for `celery -A`")
    add = worker.add_argument
    add("-Q", "--queues", metavar="A,B", type=_names, help="queues to consume from (default: the application's)")
    add(
        "-c",
        "--concurrency",
        type=_positive,
        metavar="N",
        help="tasks that run at the same time (default: the application's worker_concurrency, else the processors)",
    )
    add(
        "-P",
        "--pool",
        metavar="POOL",
        help="prefork, threads, gevent, eventlet, solo or custom (default: the application's, else prefork)",
    )
    add("-n", "--hostname", "--name", dest="name", metavar="NAME", help="NAME or NAME@HOST (default: celery@<host>)")
    add(
        "-l",
        "--loglevel",
        type=str.upper,
        choices=LEVELS,
        metavar="LEVEL",
        help="DEBUG, INFO, WARNING, ERROR or CRITICAL (default: INFO)",
    )
    add("--disable-prefetch", action="store_true", help="take a message only when a slot is free")
    add(
        "--health-port",
        type=_port,
        metavar="PORT",
        help="port of /livez, /readyz, /status and /metrics; 0: any free port, which the log names (default: 8787)",
    )
    add(
        "--drain-timeout",
        type=_positive,
        metavar="SECONDS",
        help="seconds that running tasks get after SIGTERM (default: 300)",
    )
    add("-b", "--broker", metavar="URL", help="broker URL (default: the application's)")
    add("--result-backend", metavar="URL", help="result backend URL (default: the application's)")
    add("--workdir", metavar="DIR", help="change to this directory first")
    add("--config", metavar="MODULE", help=argparse.SUPPRESS)
    add("--loader", metavar="NAME", help=argparse.SUPPRESS)
    add("--skip-checks", action="store_true", help=argparse.SUPPRESS)


def _add_app(parser: argparse.ArgumentParser, text: str) -> None:
    # SUPPRESS: what stands before the command is kept.
    parser.add_argument("-A", "--app", default=argparse.SUPPRESS, help=text)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ours, and what is behind `--`."""
    if "--" not in arguments:
        return list(arguments), []
    at = list(arguments).index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def _names(text: str) -> list[str]:
    return [name for name in map(str.strip, text.split(",")) if name]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, which is a whole number from 0 to 65535")
    return int(text)


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, *_: Any) -> None:
        from celeriac.config.installed import version

        print(f"celeriac {version()} (celery {version('celery')}, Python {sys.version.split()[0]})")
        raise SystemExit(0)
