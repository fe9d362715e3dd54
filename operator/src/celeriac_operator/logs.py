"""What does a line of the operator's log look like? Text for people, or one JSON object with stable keys for
programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from celeriac_operator.settings import LogFormat


class TextFormatter(logging.Formatter):
    """Time, level, the pool if the record names one, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        pool = getattr(record, "pool", "")
        record.about = f"[{pool}] " if pool else ""
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message; pool, reason and error if the record has them."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key in ("pool", "reason"):
            if value := getattr(record, key, ""):
                fields[key] = value
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(level: str, form: LogFormat) -> None:
    """Log to standard error. Records of libraries are logged from level WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter("%(asctime)s %(levelname)s %(about)s%(message)s")
    handler.setFormatter(JsonFormatter() if form == "JSON" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("celeriac_operator").setLevel(level)
    if level == "DEBUG":
        logging.getLogger("kopf").setLevel(logging.INFO)
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for each event of each object
