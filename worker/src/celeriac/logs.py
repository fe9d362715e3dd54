"""What does a log line look like, and which task does it belong to?

Two formats, as Celery has them: one for the worker and everything that propagates to the root logger (libraries,
`print`, Celery itself), one for task loggers (`celery.utils.log.get_task_logger`, `self.logger`). Both may use
`%(task_name)s` and `%(task_id)s`, which are there on every record: those of the running task, of the task that a
worker's own message is about, or `-`. No record can break a format, whatever thread or process it comes from.

The nearest setting wins here too. A pool that names a format gets it on the application's own console handlers as well;
a pool that names none leaves the application's own logging as it is. Handlers are never removed: Celery is told not to
hijack the root logger, and what an application has installed stays. Its files, databases and audit logs keep their
formatters in any case.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, timezone
from functools import cache
from logging.handlers import WatchedFileHandler
from typing import Any, Final

from celery import signals
from celery._state import get_current_task  # what Celery's own TaskFormatter asks
from celery.utils.log import ColorFormatter, get_multiprocessing_logger

from celeriac import redirected
from celeriac.config.contract import ContractError, Logging
from celeriac.config.settings import TASK_FORMAT, WORKER_FORMAT

NO_TASK: Final = "-"
TASK_LOGGER: Final = "celery.task"

_STANDARD_KEYS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "task_name", "task_id"}
_CELERY_KEYS: Final = frozenset({"data", "color"})
"""Extras of Celery's own records: `data` repeats the message and may hold a task's arguments."""
_NO_EXTRA: Final = _STANDARD_KEYS | _CELERY_KEYS
_STRUCTLOG_KEYS: Final = frozenset({"_logger", "_name"})
"""What structlog's `wrap_for_formatter` adds for its own formatter."""
_LINE_ENDS: Final = {ord(it): f"\\u{ord(it):04x}" for it in "\x85\u2028\u2029"}

LONGEST_TEXT: Final = 50_000
"""Characters of one text in a JSON line."""
LONGEST_LINE: Final = 250_000
"""Characters of a JSON line; without `extra` it is shorter in any case."""


class TaskLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # generic only from Python 3.11 on
    """The logger of one task: `self.logger` in a bound task. Takes `extra` as a plain logger does."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave both as they are: before Python 3.13 an adapter throws the caller's `extra` away."""
        return msg, kwargs


@cache
def task_logger(name: str) -> TaskLogger:
    """The logger of the task called `name`; its records get the task format."""
    return TaskLogger(logging.getLogger(f"{TASK_LOGGER}.{name}"), {})


def install_task_loggers(app: Any) -> None:
    """Set `self.logger` on each task of an application that has no attribute of that name itself."""
    for name, task in app.tasks.items():
        if not hasattr(task, "logger"):
            task.logger = task_logger(name)


def current_task() -> tuple[str, str]:
    """Name and id of the task that runs in this thread, or two dashes."""
    task = get_current_task()
    request = getattr(task, "request", None)
    if task is None or request is None or not request.id:
        return NO_TASK, NO_TASK
    return task.name, request.id


def fill(record: logging.LogRecord) -> None:
    """Give `record` its task; what the caller has put there with `extra` stays."""
    fields = record.__dict__
    if "task_name" in fields and "task_id" in fields:
        return
    name, task_id = current_task()
    if name == NO_TASK:
        name, task_id = _subject(record)
    fields.setdefault("task_name", name)
    fields.setdefault("task_id", task_id)


def _subject(record: logging.LogRecord) -> tuple[str, str]:
    """The task that one of Celery's own messages is about ("received", "succeeded")."""
    data = getattr(record, "data", None)
    if record.name.startswith("celery.") and isinstance(data, Mapping) and data.get("name") and data.get("id"):
        return str(data["name"]), str(data["id"])
    return NO_TASK, NO_TASK


class TaskFields(logging.Filter):
    """On an application's own handlers: every record has its task, so that their formats may use it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        fill(record)
        return True


class OneLineRetries(logging.Filter):
    """A result backend that is away: Celery shows a traceback of 60 lines with each attempt; its last line says it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, the warnings without their traceback."""
        if record.levelno == logging.WARNING and isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            record.msg, record.args = f"{message_of(record)} {shown(record.exc_info[1], str)}", ()
            record.exc_info = record.exc_text = None
        return True


def is_task_logger(name: str) -> bool:
    """Does the logger called `name` descend from Celery's task logger, by name or by `get_task_logger`?"""
    # Its own dictionary: asking for a logger by the front door takes a lock, for each line.
    known = logging.root.manager.loggerDict.get(name)
    logger: logging.Logger | None = known if isinstance(known, logging.Logger) else logging.getLogger(name)
    while logger is not None:
        if logger.name == TASK_LOGGER:
            return True
        logger = logger.parent
    return False


class TextFormatter(logging.Formatter):
    """Lines as the two formats say; colours, as Celery gives them, only on a terminal."""

    def __init__(
        self, worker_format: str, task_format: str, *, datefmt: str | None = None, color: bool = False
    ) -> None:
        super().__init__(worker_format, datefmt)
        self.worker = _formatter(worker_format, color, datefmt)
        self.task = _formatter(task_format, color, datefmt)

    def format(self, record: logging.LogRecord) -> str:
        """One record, whatever it holds; exceptions and multi-line messages follow on lines of their own."""
        fill(record)
        formatter = self.task if is_task_logger(record.name) else self.worker
        if isinstance(record.msg, Mapping) and not record.args:
            record.msg = message_of(record)
        text = self._formatted(formatter, record)
        return text if text.isascii() else writable(text)

    def _formatted(self, formatter: Any, record: logging.LogRecord) -> str:
        try:
            return str(formatter.format(record))
        except Exception:  # its arguments do not fit or cannot be shown: a line all the same, instead of a traceback
            record.msg, record.args = message_of(record), ()
        try:
            return str(formatter.format(record))
        except Exception:  # neither can its exception
            record.exc_text = shown_exception(record)["traceback"]
            return str(formatter.format(record))


def _formatter(text: str, color: bool, datefmt: str | None) -> Any:
    if not color:
        return _PlainFormatter(text, datefmt)
    formatter: Any = ColorFormatter(text, use_color=color)
    formatter.datefmt = datefmt  # Celery's own class takes it as an argument since 5.5 only
    return formatter


class _PlainFormatter(logging.Formatter):
    """As Celery's without colours, in fewer steps: the time is worked out once a second instead of for each line."""

    _second: tuple[int, str] = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        if datefmt is not None:
            return super().formatTime(record, datefmt)
        second, shown = self._second
        if second != int(record.created):
            second = int(record.created)
            shown = time.strftime(self.default_time_format, time.localtime(second))
            self._second = (second, shown)  # one assignment: other threads see both or neither
        return f"{shown},{int(record.msecs):03d}"

    def formatException(self, ei: Any) -> str:  # noqa: N802 - likewise
        return super().formatException(ei if isinstance(ei, tuple) else sys.exc_info())


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with stable keys; `always` is put into each (pool, pod)."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self.always = dict(always)
        # Neither NaN nor Infinity is JSON.
        self.encode = json.JSONEncoder(default=repr, ensure_ascii=False, skipkeys=True, allow_nan=False).encode

    def format(self, record: logging.LogRecord) -> str:
        """One record, whatever it holds: values that JSON cannot take are shown by their repr, and long texts cut."""
        fill(record)
        fields = record.__dict__
        # As Python's own formatter does: handlers that come later look for it.
        record.message = message_of(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": cut(record.message),
            "task_name": _text(fields["task_name"]),
            "task_id": _text(fields["task_id"]),
            **self.always,
            "process": record.process,
            "thread": record.threadName,
        }
        if record.exc_info:
            line["exception"] = {key: cut(text) for key, text in shown_exception(record).items()}
        if record.stack_info:
            line["stack"] = cut(record.stack_info)
        extra = {key: value for key, value in fields.items() if key not in _NO_EXTRA}
        if isinstance(record.msg, Mapping):
            extra = {**record.msg, **{key: value for key, value in extra.items() if key not in _STRUCTLOG_KEYS}}
            extra.pop("event", None)
        if extra:
            line["extra"] = extra
        return self._encoded(line)

    def _encoded(self, line: dict[str, Any]) -> str:
        try:
            text = self.encode(line)
        except Exception:  # a value that refers to itself, is nested too deeply, is no number or has no repr
            extra = {shown(key, str): shown(value, repr) for key, value in (line.pop("extra", None) or {}).items()}
            text = self.encode({**line, "extra": extra})
        if len(text) > LONGEST_LINE:
            line.pop("extra", None)
            text = self.encode({**line, "extra": f"left out, {len(text)} characters"})
        if text.isascii():
            return text
        return writable(text).translate(_LINE_ENDS)  # what some readers take for the end of a line


def message_of(record: logging.LogRecord) -> str:
    """The message of a record, whatever its arguments are; one of structlog's, a dictionary, as `event key=value`."""
    if isinstance(record.msg, Mapping) and not record.args:
        rest = (f"{key}={shown(value, repr)}" for key, value in record.msg.items() if key != "event")
        return " ".join([shown(record.msg["event"], str), *rest] if "event" in record.msg else rest)
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit their message, or cannot be shown, are a bug of the caller
        return f"{shown(record.msg, str)} {shown(record.args, repr)}"


def shown_exception(record: logging.LogRecord) -> dict[str, str]:
    """Type, message and traceback of the exception of a record, whatever it is."""
    info = record.exc_info if isinstance(record.exc_info, tuple) else sys.exc_info()
    kind, error, _ = info
    if kind is None:
        return {"type": "", "message": "None", "traceback": ""}
    try:
        # As the text format shows it: Celery's tracebacks from another process are none of Python's own.
        traceback = logging.Formatter().formatException(info)
    except Exception:
        traceback = f"{kind.__name__}: its traceback cannot be shown"
    return {"type": kind.__name__, "message": shown(error, str), "traceback": traceback}


def shown(value: Any, show: Callable[[Any], str]) -> str:
    """`show(value)`, or what can be said of a value for which that fails."""
    try:
        return show(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def writable(text: str) -> str:
    """`text` with lone surrogates, which no stream can write, as escapes; in a JSON string they mean the same."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(value: Any) -> str:
    return cut(value if isinstance(value, str) else shown(value, str))


def cut(text: str) -> str:
    """`text`, at most `LONGEST_TEXT` characters of it."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"


def build_formatter(
    config: Logging, *, always: Mapping[str, str], own: Mapping[str, Any], color: bool = False
) -> logging.Formatter:
    """The formatter that the pool, the application's Celery settings and the defaults give together.

    Raises:
        ContractError: a format uses a field that no record has, or is no format at all.
    """
    if config.format == "JSON":
        return JsonFormatter(always)
    worker = config.worker_format or own.get("worker_log_format") or WORKER_FORMAT
    task = config.task_format or own.get("worker_task_log_format") or TASK_FORMAT
    for key, text in (("logging.workerFormat", worker), ("logging.taskFormat", task)):
        _check(key, text)
    return TextFormatter(worker, task, datefmt=own.get("worker_log_datefmt"), color=color)


def _check(key: str, text: str) -> None:
    record = logging.LogRecord("celery", logging.INFO, __file__, 1, "", (), None)
    fill(record)
    fields = {**record.__dict__, "message": "", "asctime": ""}
    try:
        logging.Formatter(text)
        text % fields
    except KeyError as error:
        raise ContractError(f"{key} uses %({error.args[0]})s, which no log record has: {text!r}") from None
    except (ValueError, TypeError) as error:
        raise ContractError(f"{key} is no format of Python's logging ({error}): {text!r}") from None


def install(formatter: logging.Formatter, config: Logging, app: Any) -> None:
    """Put `formatter` on the handlers that Celery is about to make, and on those of the application if it may.

    To be called before Celery sets its logging up. With `App` as format nothing but the task fields is added.
    """
    celerys: set[str] = {WORKER_FORMAT, TASK_FORMAT}

    def dress(format: str = "", **_: Any) -> None:  # noqa: A002 - the name in Celery's signals
        celerys.add(format)
        for logger in _loggers():
            for handler in logger.handlers:
                if handler.formatter is formatter:
                    continue
                if config.format != "App" and _is_ours_to_dress(handler, celerys, is_named=config.format is not None):
                    handler.setFormatter(formatter)
                elif not any(isinstance(it, TaskFields) for it in handler.filters):
                    handler.addFilter(TaskFields())

    logging.getLogger("celery.backends.base").addFilter(OneLineRetries())
    redirected.install(app)
    if config.format == "JSON":
        redirected.say_in_lines(formatter)
    # The first two as soon as Celery has made its handlers; the third also where the application has done it all.
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger, signals.celeryd_after_setup):
        signal.connect(dress, weak=False, dispatch_uid=f"celeriac-logs-{id(signal)}")


def _is_ours_to_dress(handler: logging.Handler, celerys: set[str], *, is_named: bool) -> bool:
    """Is this the handler that Celery has made, or one on the console while the pool names a format?

    An application may use Celery's formatters on handlers of its own (a file, an audit log), or give Celery's handler
    a format of its own: both are its word.
    """
    if isinstance(handler.formatter, ColorFormatter) and handler.formatter._fmt in celerys:
        return _is_console(handler) or isinstance(handler, WatchedFileHandler)  # as Celery makes it with --logfile
    return is_named and _is_console(handler)


def _loggers() -> list[logging.Logger]:
    """Every logger that may have handlers: an application gives them to any (Django's LOGGING to `django`)."""
    known = [it for it in list(logging.root.manager.loggerDict.values()) if isinstance(it, logging.Logger)]
    pool = get_multiprocessing_logger()
    return [logging.getLogger(), *known, *([pool] if pool is not None else [])]


def _is_console(handler: logging.Handler) -> bool:
    """Does this handler write where `kubectl logs` reads?"""
    stream = getattr(handler, "stream", None)
    is_plain = type(handler) is logging.StreamHandler
    # One that looks the stream up for each record, as Airflow's, has no stream of its own.
    looks_it_up = isinstance(handler, logging.StreamHandler) and "stream" not in vars(handler)
    if isinstance(stream, redirected.Redirected):
        stream = stream.stream
    return (is_plain or looks_it_up) and getattr(stream, "name", None) in {"<stderr>", "<stdout>"}
