"""`celeriac` and `python -m celeriac`: the commands of the worker library."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence

from celeriac import arguments
from celeriac.arguments import UsageError


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code of the process."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        flags, for_celery = arguments.parse(words)
    except UsageError as error:
        return _refuse(str(error))
    if flags.command == "worker":
        return _worker(flags, for_celery)
    if flags.command == "inject":
        return _inject(flags)
    if flags.command == "doctor":
        return _doctor(flags)
    if flags.command == "dead":
        return _dead(flags)
    arguments.build_parser().print_help()
    return 0


def _worker(flags: argparse.Namespace, for_celery: list[str]) -> int:
    from celeriac import bootstrap
    from celeriac.config import application, standalone
    from celeriac.config.contract import ContractError

    # Celery reads its own variables from the process, and so does whatever a task starts.
    os.environ.update(arguments.variables(flags, socket.gethostname()))
    try:
        if flags.workdir:
            os.chdir(flags.workdir)
            sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as Celery does
        document = standalone.document(os.environ, arguments.document_keys(flags, for_celery), application.processors())
    except OSError as error:
        return _refuse(f"--workdir {flags.workdir}: {error.strerror}")
    except ContractError as error:
        return _refuse(str(error))
    return bootstrap.run(document, os.environ)


def _inject(flags: argparse.Namespace) -> int:
    from celeriac.image import inject

    return inject.main(flags.directory, flags.python or inject.DEFAULT_PYTHON)


def _doctor(flags: argparse.Namespace) -> int:
    from celeriac.doctor import command

    keys = {"app": flags.app, "queues": flags.queues}
    return command.main(os.environ, {name: value for name, value in keys.items() if value}, as_json=flags.json)


def _dead(flags: argparse.Namespace) -> int:
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    from celeriac.config import application, contract, standalone
    from celeriac.delivery import dead
    from celeriac.exits import Exit, GivingUpError
    from celeriac.hooks import broker

    try:
        environment = contract.parse_environment(os.environ, hostname=socket.gethostname())
        config = contract.parse(standalone.document(os.environ, {"app": flags.app} if flags.app else {}))
        app = application.prepare(config, environment).app
        application.select_queues(app, config)
        return dead.main(app, flags.action, flags.entries, queues=flags.queue, as_json=flags.json)
    except contract.ContractError as error:
        return _refuse(str(error))
    except GivingUpError as error:
        return _refuse(str(error), int(error.code))
    except (RedisError, OperationalError) as error:
        where = broker.shown(app.connection_for_write())
        return _refuse(f"The broker {where} cannot be reached: {broker.said(error)}", int(Exit.BROKER))


def _refuse(sentence: str, code: int = arguments.USAGE) -> int:
    print(f"celeriac: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
