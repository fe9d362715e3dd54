"""`celeriac worker` takes every flag that `celery worker` takes, or says in a sentence why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
from celery.bin.celery import celery as celery_command
from celery.bin.worker import worker as worker_command

from celeriac import arguments
from celeriac.arguments import USAGE, UsageError
from celeriac.config import contract, settings, standalone
from celeriac.exits import Exit

VALUES = {
    "--autoscale": "3,1",
    "--hostname": "shop@%h",
    "--queues": "emails,labels",
    "--pool": "threads",
    "--loglevel": "debug",
    "--workdir": ".",
    "--optimization": "fair",
    "--pool-start-method": "fork",
    "--app": "shop",
    "--concurrency": "4",
}
BY_TYPE = {click.INT: "3", click.FLOAT: "30"}


def flags_of_celery() -> Iterator[Any]:
    """Each spelling of each flag, with a value in both ways where it takes one."""
    for option in [*worker_command.params, *celery_command.params]:
        assert isinstance(option, click.Option)
        if option.name == "version":
            continue
        long = next(it for it in option.opts if it.startswith("--"))
        value = None if option.is_flag else VALUES.get(long, BY_TYPE.get(option.type, "text"))
        for spelling in option.opts:
            words = [spelling] if value is None else [spelling, value]
            yield pytest.param(words, id=" ".join(words))
            if value is not None and spelling.startswith("--"):
                yield pytest.param([f"{spelling}={value}"], id=f"{spelling}={value}")


@pytest.mark.parametrize("words", list(flags_of_celery()))
def test_every_flag_of_celery_is_taken_or_refused_by_its_name(words: list[str]) -> None:
    flag = words[0].partition("=")[0]
    if any(flag in names for names in arguments.REFUSED):
        with pytest.raises(UsageError, match=f"^{flag} cannot be used here: "):
            arguments.parse(["worker", *words])
        return
    flags, for_celery = arguments.parse(["worker", *words])
    keys = {"app": "shop", **arguments.document_keys(flags, for_celery)}
    config = contract.parse(standalone.document({}, keys))
    environment = contract.parse_environment(arguments.variables(flags, "host.example"), hostname="host.example")
    before, behind = split(settings.celery_arguments(config, environment, {}))
    # Celery's own parsers: each raises for a flag that it does not have in that place.
    celery_command.make_parser(click.Context(celery_command)).parse_args([*before, "worker"])
    worker_command.make_parser(click.Context(worker_command)).parse_args(behind)


def split(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("worker")
    return words[:at], words[at + 1 :]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        pytest.param(["-A", "shop"], {"app": "shop"}, id="the application"),
        pytest.param(["-Q", "a, b,"], {"queues": ["a", "b"]}, id="queues with a blank"),
        pytest.param(["-c", "4"], {"worker.concurrency": 4}, id="slots"),
        pytest.param(["-c4"], {"worker.concurrency": 4}, id="slots, without a blank"),
        pytest.param(["-P", "processes"], {"worker.pool": "prefork"}, id="Celery's other name of prefork"),
        pytest.param(["-l", "fatal"], {"logging.level": "CRITICAL"}, id="Celery's other name of critical"),
        pytest.param(["-l", "info"], {"logging.level": "INFO"}, id="a level in small letters"),
        pytest.param(["-n", "w1@%h"], {"pool.name": "w1"}, id="a node name"),
        pytest.param(["--disable-prefetch"], {"worker.prefetch": 0}, id="no prefetch"),
        pytest.param(["--health-port", "0"], {"liveness.port": 0}, id="any port"),
        pytest.param(["--drain-timeout", "9"], {"drain.timeoutSeconds": 9}, id="a drain"),
        pytest.param(["-B", "-s", "x.db"], {"worker.extraArgs": ["-B", "-s", "x.db"]}, id="beat, to Celery"),
        pytest.param(["--", "-B"], {"worker.extraArgs": ["-B"]}, id="behind two dashes, as it is"),
        pytest.param(["--auto", "3,1"], {"worker.extraArgs": ["--auto", "3,1"]}, id="no guessing from a beginning"),
    ],
)
def test_a_flag_is_a_key_of_the_document(words: list[str], keys: dict[str, Any]) -> None:
    assert arguments.document_keys(*arguments.parse(["worker", *words])) == keys


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(["-n", "w1@%h"], {"CELERIAC_POD_NAME": "web1.example"}, id="%h"),
        pytest.param(["-n", "w1@%n-a.%d"], {"CELERIAC_POD_NAME": "web1-a.example"}, id="%n and %d"),
        pytest.param(["-n", "w1"], {}, id="a name alone"),
        pytest.param(["-b", "redis://x"], {"CELERIAC_BROKER_URL": "redis://x"}, id="the broker"),
        pytest.param(["--config", "celeryconfig"], {"CELERY_CONFIG_MODULE": "celeryconfig"}, id="a configuration"),
    ],
)
def test_a_flag_is_a_variable(words: list[str], variables: dict[str, str]) -> None:
    flags, _ = arguments.parse(["worker", *words])
    assert arguments.variables(flags, "web1.example") == variables


def test_the_application_may_be_named_where_celery_takes_it() -> None:
    for command in ("worker", "doctor"):
        assert arguments.parse(["-A", "shop", command])[0].app == "shop"
        assert arguments.parse([command, "-A", "shop"])[0].app == "shop"
    assert arguments.parse(["-A", "shop", "dead", "list"])[0].app == "shop"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["worker", "-c", "0"], id="no slots"),
        pytest.param(["worker", "-c", "many"], id="slots in words"),
        pytest.param(["worker", "--health-port", "70000"], id="no port"),
        pytest.param(["worker", "-l", "loud"], id="no level"),
        pytest.param(["doctor", "--nope"], id="a flag that no other command has"),
        pytest.param(["dead", "lst"], id="an action that is not there"),
        pytest.param(["wroker"], id="a command that is not there"),
    ],
)
def test_wrong_arguments_have_the_exit_code_of_the_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parse(words)
    assert ended.value.code == USAGE
    assert capsys.readouterr().err.count("celeriac: ") == 1


def test_the_help_names_every_exit_code() -> None:
    words = arguments.WORKER_EPILOG.split()
    assert [it for it in Exit if str(it.value) not in words] == []
