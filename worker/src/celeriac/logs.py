"""What does a log line look like, and which task does it belong to?

As in Celery, there are two formats: one for the worker and everything that propagates to the root logger (libraries,
`print`, Celery itself), and one for task loggers (`celery.utils.log.get_task_logger`, `self.logger`). Both may use
`%(task_name)s` and `%(task_id)s`. Every record has these fields: those of the running task, or of the task that a
message of the worker is about, or `-`. No record can break a format, whichever thread or process it comes from.

The nearest setting takes precedence here too. If a pool names a format, the application's own console handlers use it
as well. If it names none, the application's own logging is not changed. Handlers are never removed: Celery is told not
to hijack the root logger, and handlers that the application has installed stay. Handlers for files, databases and audit
logs always keep their formatters.
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
from celery._state import get_current_task  # which Celery's own TaskFormatter uses
from celery.utils.log import ColorFormatter, get_multiprocessing_logger

from celeriac import redirected
from celeriac.config.contract import ContractError, Logging
from celeriac.config.settings import TASK_FORMAT, WORKER_FORMAT

NO_TASK: Final = "-"
TASK_LOGGER: Final = "celery.task"

_STANDARD_KEYS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "task_name", "task_id"}
_CELERY_KEYS: Final = frozenset({"data", "color"})
"""Extra fields of Celery's own records: `data` repeats the message and may contain a task's arguments."""
_NO_EXTRA: Final = _STANDARD_KEYS | _CELERY_KEYS
_STRUCTLOG_KEYS: Final = frozenset({"_logger", "_name"})
"""Fields that structlog's `wrap_for_formatter` adds for its own formatter."""
_LINE_ENDS: Final = {ord(it): f"\\u{ord(it):04x}" for it in "\x85\u2028\u2029"}

LONGEST_TEXT: Final = 50_000
"""Maximum length of one text in a JSON line, in characters."""
LONGEST_LINE: Final = 250_000
"""Maximum length of a JSON line, in characters. A line without `extra` is always shorter."""


class TaskLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # generic only from Python 3.11 on
    """The logger of one task: `self.logger` in a bound task. It accepts `extra` like a plain logger."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Return both unchanged. Before Python 3.13 an adapter discards the caller's `extra`."""
        return msg, kwargs


@cache
def task_logger(name: str) -> TaskLogger:
    """The logger of the task called `name`; its records get the task format."""
    return TaskLogger(logging.getLogger(f"{TASK_LOGGER}.{name}"), {})


def install_task_loggers(app: Any) -> None:
    """Set `self.logger` on each task of an application that does not have such an attribute."""
    for name, task in app.tasks.items():
        if not hasattr(task, "logger"):
            task.logger = task_logger(name)


def current_task() -> tuple[str, str]:
    """Name and ID of the task that runs in this thread, or `-` for both."""
    task = get_current_task()
    request = getattr(task, "request", None)
    if task is None or request is None or not request.id:
        return NO_TASK, NO_TASK
    return task.name, request.id


def fill(record: logging.LogRecord) -> None:
    """Add the task fields to `record`. Fields that the caller has set with `extra` stay."""
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
    """Adds the task fields to every record of an application's own handlers, so that their formats may use them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        fill(record)
        return True


class OneLineRetries(logging.Filter):
    """Shortens warnings about an unreachable result backend to one line. Celery logs 60 lines for each attempt."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, but remove the traceback of warnings."""
        if record.levelno == logging.WARNING and isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            record.msg, record.args = f"{message_of(record)} {shown(record.exc_info[1], str)}", ()
            record.exc_info = record.exc_text = None
        return True


def is_task_logger(name: str) -> bool:
    """Whether the logger called `name` is below Celery's task logger, by its name or through `get_task_logger`."""
    # Use the manager's dictionary: `getLogger` takes a lock, which would be done for each line.
    known = logging.root.manager.loggerDict.get(name)
    logger: logging.Logger | None = known if isinstance(known, logging.Logger) else logging.getLogger(name)
    while logger is not None:
        if logger.name == TASK_LOGGER:
            return True
        logger = logger.parent
    return False


class TextFormatter(logging.Formatter):
    """Formats lines with the two formats. It uses Celery's colours, but only on a terminal."""

    def __init__(
        self, worker_format: str, task_format: str, *, datefmt: str | None = None, color: bool = False
    ) -> None:
        super().__init__(worker_format, datefmt)
        self.worker = _formatter(worker_format, color, datefmt)
        self.task = _formatter(task_format, color, datefmt)

    def format(self, record: logging.LogRecord) -> str:
        """Format any record. Exceptions and multi-line messages continue on separate lines."""
        fill(record)
        formatter = self.task if is_task_logger(record.name) else self.worker
        if isinstance(record.msg, Mapping) and not record.args:
            record.msg = message_of(record)
        text = self._formatted(formatter, record)
        return text if text.isascii() else writable(text)

    def _formatted(self, formatter: Any, record: logging.LogRecord) -> str:
        try:
            return str(formatter.format(record))
        except Exception:  # the arguments do not fit or cannot be shown; still log a line
            record.msg, record.args = message_of(record), ()
        try:
            return str(formatter.format(record))
        except Exception:  # the exception cannot be shown either
            record.exc_text = shown_exception(record)["traceback"]
            return str(formatter.format(record))


def _formatter(text: str, color: bool, datefmt: str | None) -> Any:
    if not color:
        return _PlainFormatter(text, datefmt)
    formatter: Any = ColorFormatter(text, use_color=color)
    formatter.datefmt = datefmt  # Celery's class accepts it as an argument only since 5.5
    return formatter


class _PlainFormatter(logging.Formatter):
    """Celery's format without colours, but faster: the time is formatted once a second instead of for each line."""

    _second: tuple[int, str] = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        if datefmt is not None:
            return super().formatTime(record, datefmt)
        second, shown = self._second
        if second != int(record.created):
            second = int(record.created)
            shown = time.strftime(self.default_time_format, time.localtime(second))
            self._second = (second, shown)  # a single assignment, so that other threads see both values or neither
        return f"{shown},{int(record.msecs):03d}"

    def formatException(self, ei: Any) -> str:  # noqa: N802 - likewise
        return super().formatException(ei if isinstance(ei, tuple) else sys.exc_info())


class JsonFormatter(logging.Formatter):
    """Formats each record as one line with a JSON object, with stable keys. `always` is added to each (pool, pod)."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self.always = dict(always)
        # NaN and Infinity are not valid JSON.
        self.encode = json.JSONEncoder(default=repr, ensure_ascii=False, skipkeys=True, allow_nan=False).encode

    def format(self, record: logging.LogRecord) -> str:
        """Format any record. Values that JSON does not support are shown by their repr, and long texts are cut."""
        fill(record)
        fields = record.__dict__
        # Python's own formatter sets this too, and later handlers use it.
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
        except Exception:  # a value refers to itself, is nested too deeply, is NaN or has no repr
            extra = {shown(key, str): shown(value, repr) for key, value in (line.pop("extra", None) or {}).items()}
            text = self.encode({**line, "extra": extra})
        if len(text) > LONGEST_LINE:
            line.pop("extra", None)
            text = self.encode({**line, "extra": f"left out, {len(text)} characters"})
        if text.isascii():
            return text
        return writable(text).translate(_LINE_ENDS)  # some readers treat these as line ends


def message_of(record: logging.LogRecord) -> str:
    """The message of any record. A message of structlog, which is a dictionary, becomes `event key=value`."""
    if isinstance(record.msg, Mapping) and not record.args:
        rest = (f"{key}={shown(value, repr)}" for key, value in record.msg.items() if key != "event")
        return " ".join([shown(record.msg["event"], str), *rest] if "event" in record.msg else rest)
    try:
        return record.getMessage()
    except Exception:  # a bug of the caller: the arguments do not fit the message or cannot be shown
        return f"{shown(record.msg, str)} {shown(record.args, repr)}"


def shown_exception(record: logging.LogRecord) -> dict[str, str]:
    """Type, message and traceback of a record's exception, even if it cannot be shown."""
    info = record.exc_info if isinstance(record.exc_info, tuple) else sys.exc_info()
    kind, error, _ = info
    if kind is None:
        return {"type": "", "message": "None", "traceback": ""}
    try:
        # Format it like the text format does: Celery's tracebacks from another process are not Python tracebacks.
        traceback = logging.Formatter().formatException(info)
    except Exception:
        traceback = f"{kind.__name__}: its traceback cannot be shown"
    return {"type": kind.__name__, "message": shown(error, str), "traceback": traceback}


def shown(value: Any, show: Callable[[Any], str]) -> str:
    """`show(value)`, or the type of the value if that fails."""
    try:
        return show(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def writable(text: str) -> str:
    """`text` with lone surrogates as escapes, because streams cannot write them. In JSON the meaning is the same."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(value: Any) -> str:
    return cut(value if isinstance(value, str) else shown(value, str))


def cut(text: str) -> str:
    """`text`, cut to `LONGEST_TEXT` characters."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"


def build_formatter(
    config: Logging, *, always: Mapping[str, str], own: Mapping[str, Any], color: bool = False
) -> logging.Formatter:
    """Build the formatter from the pool's settings, the application's Celery settings and the defaults.

    Raises:
        ContractError: a format uses a field that records do not have, or is not a valid format.
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
        raise ContractError(f"{key} is not a format of Python's logging ({error}): {text!r}") from None


def install(formatter: logging.Formatter, config: Logging, app: Any) -> None:
    """Set `formatter` on the handlers that Celery will create, and on the application's handlers where allowed.

    Call this before Celery sets up its logging. If the format is `App`, only the task fields are added.
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
    # Celery sends the first two when it has created its handlers. It sends the third also if the application has set up
    # all logging itself.
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger, signals.celeryd_after_setup):
        signal.connect(dress, weak=False, dispatch_uid=f"celeriac-logs-{id(signal)}")


def _is_ours_to_dress(handler: logging.Handler, celerys: set[str], *, is_named: bool) -> bool:
    """Whether Celery has created this handler, or it writes to the console and the pool names a format.

    An application may use Celery's formatters on its own handlers (a file, an audit log), or set its own format on
    Celery's handler. Neither is changed.
    """
    if isinstance(handler.formatter, ColorFormatter) and handler.formatter._fmt in celerys:
        return _is_console(handler) or isinstance(handler, WatchedFileHandler)  # Celery creates this with --logfile
    return is_named and _is_console(handler)


def _loggers() -> list[logging.Logger]:
    """Every logger that may have handlers. Applications add them to any logger (Django's LOGGING to `django`)."""
    known = [it for it in list(logging.root.manager.loggerDict.values()) if isinstance(it, logging.Logger)]
    pool = get_multiprocessing_logger()
    return [logging.getLogger(), *known, *([pool] if pool is not None else [])]


def _is_console(handler: logging.Handler) -> bool:
    """Whether `kubectl logs` shows what this handler writes."""
    stream = getattr(handler, "stream", None)
    is_plain = type(handler) is logging.StreamHandler
    # A handler that looks up the stream for each record, such as Airflow's, does not store a stream.
    looks_it_up = isinstance(handler, logging.StreamHandler) and "stream" not in vars(handler)
    if isinstance(stream, redirected.Redirected):
        stream = stream.stream
    return (is_plain or looks_it_up) and getattr(stream, "name", None) in {"<stderr>", "<stdout>"}
