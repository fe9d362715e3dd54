"""What does a line of the operator's log look like? Text for people, or one JSON object with stable keys for programs.

Tenants choose much of what is logged: names of hosts, errors of servers, values in templates. Whatever a record holds,
it is one line that begins with a time (a traceback is indented below it), without control characters, and bounded.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from celeriac_operator.printable import printable
from celeriac_operator.settings import LogFormat

MESSAGE_CHARACTERS: Final = 4000
TRACEBACK_LINES: Final = 60
TRACEBACK_CHARACTERS: Final = 500
"""Of each line of a traceback."""

INDENT: Final = "    | "
"""Before each line of a traceback, so that none looks like a record."""


class TextFormatter(logging.Formatter):
    """Time, level, the pool if the record names one, message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Format all but the traceback."""
        pool = printable(getattr(record, "pool", ""))
        record.about = f"[{pool}] " if pool else ""
        record.message = printable(record.message, limit=MESSAGE_CHARACTERS)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in logging
        """Format a traceback."""
        return _traceback(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the name in logging
        """Format a stack."""
        return _traceback(super().formatStack(stack_info))


def _traceback(text: str) -> str:
    lines = text.split("\n")
    if len(lines) > TRACEBACK_LINES:
        lines = [*lines[: TRACEBACK_LINES // 2], "…", *lines[-TRACEBACK_LINES // 2 :]]
    return "\n".join(INDENT + printable(line, limit=TRACEBACK_CHARACTERS) for line in lines)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message; pool, reason and error if the record has them."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": printable(record.getMessage(), limit=MESSAGE_CHARACTERS),
        }
        for key in ("pool", "reason"):
            if value := getattr(record, key, ""):
                fields[key] = printable(value)
        if record.exc_info:
            fields["error"] = _traceback(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False)


def configure(level: str, form: LogFormat) -> None:
    """Log to standard error. Records of libraries are logged from level WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter("%(asctime)s %(levelname)s %(about)s%(message)s")
    handler.setFormatter(JsonFormatter() if form == "JSON" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("celeriac_operator").setLevel(level)
    # It logs what a server has sent; the operator reports the same in words of its own.
    logging.getLogger("redis").setLevel(logging.CRITICAL)
    logging.getLogger("push_response").setLevel(logging.CRITICAL)
    if level == "DEBUG":
        logging.getLogger("kopf").setLevel(logging.INFO)
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for each event of each object
