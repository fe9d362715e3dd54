from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from celery.utils.log import get_task_logger
from tests.integration.worker import test_logs as test_real_logs

from celeriac import logs
from celeriac.config import contract

ALWAYS = {"pool": "emails", "namespace": "shop", "pod": "pod-1"}


def a_record(
    name: str = "third.party", message: str = "hello", args: tuple[object, ...] = (), **fields: Any
) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.INFO, "file.py", 1, message, args, None)
    record.created, record.msecs = 0.0, 0.0
    record.__dict__.update(fields)
    return record


def text(**settings: Any) -> logging.Formatter:
    return logs.build_formatter(contract.Logging(**settings), always=ALWAYS, own={})


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    formatter = logs.build_formatter(contract.Logging(format="JSON"), always=ALWAYS, own={})
    line = formatter.format(record)
    assert "\n" not in line
    parsed: dict[str, Any] = json.loads(line)
    return parsed


@pytest.mark.parametrize(
    ("record", "line"),
    [
        pytest.param(a_record(), "INFO] [-] hello", id="a library outside a task"),
        pytest.param(a_record("celery.task.x"), "INFO] Task -[-]: hello", id="a task logger outside a task"),
        pytest.param(
            a_record("celery.worker.strategy", data={"name": "shop.send", "id": "1-2"}),
            "INFO] [shop.send] hello",
            id="Celery about a task",
        ),
        pytest.param(a_record("other", data={"name": "x", "id": "y"}), "INFO] [-] hello", id="data of somebody else"),
        pytest.param(a_record("celery.worker", data="no mapping"), "INFO] [-] hello", id="data that is none"),
        pytest.param(a_record(task_name="theirs", task_id="0"), "INFO] [theirs] hello", id="fields of its own"),
    ],
)
def test_a_line_of(record: logging.LogRecord, line: str) -> None:
    assert text().format(record).endswith(f",000:{line}")


def test_arguments_that_do_not_fit_cost_no_line() -> None:
    assert text().format(a_record(message="%d", args=("x",))).endswith("INFO] [-] %d ('x',)")


def test_the_document_has_exactly_the_rows_that_are_tested_with_real_workers() -> None:
    document = (Path(__file__).parents[3] / "docs" / "guides" / "logs.md").read_text()

    def rows(heading: str) -> list[str]:
        section = document.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]

    assert rows("Where a line comes from") == list(test_real_logs.LINES)
    assert rows("Fields of the text formats") == [f"`{it}`" for it in test_real_logs.FIELDS]
    assert rows("Keys of the JSON lines") == [f"`{it}`" for it in test_real_logs.JSON_KEYS]


def test_in_a_task_every_line_has_its_name_and_id() -> None:
    app = Celery("unit", set_as_current=False)
    lines: list[str] = []

    @app.task(name="unit.speak", bind=True)
    def speak(self: Any) -> None:
        lines.append(text().format(a_record("celery.task.unit.speak")))
        lines.append(text().format(a_record()))

    speak.apply(task_id="1-2")
    assert lines[0].endswith("INFO] Task unit.speak[1-2]: hello")
    assert lines[1].endswith("INFO] [unit.speak] hello")


def test_celerys_task_loggers_are_known_whatever_they_are_called() -> None:
    assert logs.is_task_logger(get_task_logger("shop.tasks_of_ours").name)
    assert logs.is_task_logger(logs.task_logger("shop.send").logger.name)
    assert not logs.is_task_logger("shop.models")
    assert not logs.is_task_logger("celery.worker")


def test_the_logger_of_a_task_takes_extra_as_a_plain_one_does(caplog: pytest.LogCaptureFixture) -> None:
    logger = logs.task_logger("unit.extra")
    with caplog.at_level("INFO", logger="celery.task.unit.extra"):
        logger.info("paid %d", 7, extra={"customer": 42})
    assert caplog.records[0].customer == 42  # type: ignore[attr-defined]
    assert logs.task_logger("unit.extra") is logger


def test_exceptions_and_several_lines_follow_in_the_text_format() -> None:
    try:
        dict[str, str]()["lost"]
    except KeyError:
        record = a_record(message="one\ntwo")
        record.exc_info = sys.exc_info()
    line = text().format(record)
    assert "[-] one\ntwo\nTraceback (most recent call last):\n" in line
    assert line.endswith("KeyError: 'lost'")


def test_a_json_line_has_stable_keys() -> None:
    assert as_json(a_record(message="paid %d", args=(7,), customer=42)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "INFO",
        "logger": "third.party",
        "message": "paid 7",
        "task_name": "-",
        "task_id": "-",
        "pool": "emails",
        "namespace": "shop",
        "pod": "pod-1",
        "process": as_json(a_record())["process"],
        "thread": "MainThread",
        "extra": {"customer": 42},
    }


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(a_record(message="%d", args=("x",)), "%d ('x',)", id="arguments that do not fit"),
        pytest.param(a_record(message="ümlaut\n\x00"), "ümlaut\n\x00", id="characters of every kind"),
    ],
)
def test_a_json_line_survives(record: logging.LogRecord, message: str) -> None:
    assert as_json(record)["message"] == message


def test_a_json_line_shows_what_json_does_not_know_by_its_repr() -> None:
    assert as_json(a_record(who=object))["extra"] == {"who": "<class 'object'>"}


def test_a_json_line_does_not_repeat_what_celery_attaches() -> None:
    assert "extra" not in as_json(a_record("celery.app.trace", data={"args": "(secret,)"}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param({"worker_format": "%(tsk)s"}, r"workerFormat uses %\(tsk\)s, which no log", id="no such field"),
        pytest.param({"task_format": "%(message"}, r"logging.taskFormat is no format", id="a field that does not end"),
        pytest.param({"task_format": "hello"}, r"logging.taskFormat is no format", id="no field at all"),
        pytest.param({"task_format": "%(message)d"}, r"logging.taskFormat is no format", id="a text as a number"),
    ],
)
def test_a_format_that_cannot_work_is_refused(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(contract.ContractError, match=sentence):
        text(**settings)


def test_the_applications_own_formats_come_before_the_defaults_and_after_the_pools() -> None:
    own = {"worker_log_format": "OWN %(message)s", "worker_task_log_format": "OWN TASK %(message)s"}
    formatter = logs.build_formatter(contract.Logging(task_format="POOL %(message)s"), always=ALWAYS, own=own)
    assert formatter.format(a_record()) == "OWN hello"
    assert formatter.format(a_record("celery.task")) == "POOL hello"


def test_every_task_gets_a_logger_and_none_is_taken_away() -> None:
    app = Celery("unit", broker="memory://", set_as_current=False)

    @app.task(name="unit.plain")
    def plain() -> None: ...

    class Own(Task):  # type: ignore[type-arg]
        logger = "its own"

    @app.task(name="unit.own", base=Own)
    def own() -> None: ...

    app.finalize()
    logs.install_task_loggers(app)
    assert isinstance(app.tasks["unit.plain"].logger, logs.TaskLogger)
    assert app.tasks["unit.own"].logger == "its own"
