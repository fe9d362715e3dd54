from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from celery.utils.log import get_task_logger
from tests.integration.worker.observability import test_logs as test_real_logs

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


class UnshowableError(Exception):
    """Fails at everything that a log line could ask of it."""

    def __str__(self) -> str:
        raise SystemError("no text")

    __repr__ = __str__


class Impostor:
    """Its `__str__` does not return a text."""

    def __repr__(self) -> str:
        return 7  # type: ignore[return-value]


def an_endless_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def a_deep_list() -> list[Any]:
    value: list[Any] = []
    for _ in range(5_000):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "no text": UnshowableError(),
    "an impostor": Impostor(),
    "a lone surrogate": "\ud800",
    "bytes": b"\xff\x00",
    "ends of lines": "one\ntwo\r\x0b\x0c\x1c\x85\u2028\u2029three",
    "escapes": "\x1b[2J\x1b]52;c;aGk=\x07",
    "huge": "x" * 600_000,
    "refers to itself": an_endless_list(),
    "deep": a_deep_list(),
    "no number": float("nan"),
    "infinite": [float("inf")],
    "odd keys": {1: "a", (1, 2): "b", None: "c", "\udfff": "d", UnshowableError: "e"},
    "a class": object,
    "a set": {1},
    "none": None,
    "percent": "100 % of %s and %(name)s and %",
    "many": list(range(60_000)),
}
"""Values that an application may log, by name."""


def raised(error: BaseException) -> Any:
    return type(error), error, None


PLACES: dict[str, Callable[[Any], logging.LogRecord]] = {
    "the message": lambda odd: a_record(message=odd),
    "an argument": lambda odd: a_record(message="%s", args=(odd,)),
    "an argument shown by its repr": lambda odd: a_record(message="%r", args=(odd,)),
    "an argument that should be a number": lambda odd: a_record(message="%d", args=(odd,)),
    "too many arguments": lambda odd: a_record(message="nothing", args=(odd, odd)),
    "named arguments": lambda odd: a_record(message="%(x)s %(y)s", args=({"x": odd},)),
    "extra": lambda odd: a_record(odd=odd),
    "within extra": lambda odd: a_record(odd={"list": [odd]}),
    "a task's id": lambda odd: a_record(task_name="x", task_id=odd),
    "an exception": lambda odd: a_record(exc_info=raised(ValueError(odd))),
    "an exception that is odd itself": lambda odd: a_record(
        exc_info=raised(odd if isinstance(odd, Exception) else KeyError(odd))
    ),
    "a field of an event": lambda odd: a_record(message={"event": odd, "odd": odd}),  # type: ignore[arg-type]
    "a stack": lambda odd: a_record(stack_info=odd if isinstance(odd, str) else None),
}
"""Where in a record a value may stand."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("odd", ODD)
def test_whatever_a_record_holds_it_is_one_json_object_on_one_line_and_some_text(odd: str, place: str) -> None:
    formatter = logs.build_formatter(contract.Logging(format="JSON"), always=ALWAYS, own={})
    line = formatter.format(PLACES[place](ODD[odd]))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert len(line.encode()) < 600_000
    parsed = json.loads(line, parse_constant=lambda it: pytest.fail(f"{it} is not JSON"))
    assert ALWAYS.items() <= parsed.items()
    text().format(PLACES[place](ODD[odd])).encode()


def test_an_event_of_structlog_becomes_fields() -> None:
    event = {"event": "paid", "customer": 7, "items": ["a"]}
    record = a_record(message=event, _logger=object(), _name="info")  # type: ignore[arg-type]
    line = as_json(record)
    assert (line["message"], line["extra"]) == ("paid customer=7 items=['a']", {"customer": 7, "items": ["a"]})
    assert text().format(a_record(message=event)).endswith("[-] paid customer=7 items=['a']")  # type: ignore[arg-type]


def test_later_handlers_find_the_message_on_the_record() -> None:
    record = a_record(message="paid %d", args=(7,))
    as_json(record)
    assert record.message == "paid 7"


def test_a_json_line_shows_what_json_does_not_know_by_its_repr() -> None:
    assert as_json(a_record(who=object))["extra"] == {"who": "<class 'object'>"}


def test_a_json_line_does_not_repeat_what_celery_attaches() -> None:
    assert "extra" not in as_json(a_record("celery.app.trace", data={"args": "(secret,)"}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param({"worker_format": "%(tsk)s"}, r"workerFormat uses %\(tsk\)s, which no log", id="no such field"),
        pytest.param(
            {"task_format": "%(message"}, r"logging.taskFormat is not a format", id="a field that does not end"
        ),
        pytest.param({"task_format": "hello"}, r"logging.taskFormat is not a format", id="no field at all"),
        pytest.param({"task_format": "%(message)d"}, r"logging.taskFormat is not a format", id="a text as a number"),
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
