"""(pure) Which messages are calls of a task, as Celery's message protocol describes them?

Celery's worker trusts a message that names a task. A header of a wrong type then raises where it is first used: in the
consumer's loop, in a timer or in the pool's result handler. The error does not say which message caused it, and the
worker ends. So every field that Celery's parent process uses is checked before Celery gets the message. Fields that
only the run of the task uses are not checked; the run then fails as Celery documents.

Source: https://docs.celeryq.dev/en/stable/internals/protocol.html and `celery.worker.request`, `.strategy`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from celeriac.printable import printable

SHOWN: Final = 60
"""Characters of a wrong value in a reason."""


def why_no_call(fields: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the fields of a call; `None` if nothing is.

    Args:
        fields: the headers of a message of protocol version 2, or the body of a message of version 1.
    """
    for name, (is_right, expected) in _REQUIRED.items():
        if not is_right(fields.get(name)):
            return _wrong(name, fields, expected)
    for name, (is_right, expected) in _OPTIONAL.items():
        value = fields.get(name)
        if value is not None and not is_right(value):
            return _wrong(name, fields, expected)
    return None


def why_no_body(body: Any) -> str | None:
    """Return what is wrong with the decoded body of a call of protocol version 2; `None` if nothing is."""
    if isinstance(body, dict):
        return why_no_arguments(body) if "args" in body else "its body is an object without args"
    if not isinstance(body, (list, tuple)) or len(body) != 3:
        return f"its body is {printable(body, limit=SHOWN)}, not [args, kwargs, embed]"
    args, kwargs, embed = body
    if embed is not None and not isinstance(embed, dict):
        return f"its embed is {printable(embed, limit=SHOWN)}, not an object"
    return why_no_arguments({"args": args, "kwargs": kwargs, **(embed or {})})


def why_no_arguments(fields: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a call's arguments or with the calls that follow it; `None` if nothing is.

    All of them may be absent. Celery detects an invalid following call only after the task has run, and then stores no
    result.
    """
    args, kwargs = fields.get("args", ()), fields.get("kwargs", {})
    if not isinstance(args, (list, tuple)):
        return f"its args are {printable(args, limit=SHOWN)}, not an array"
    if not isinstance(kwargs, dict):
        return f"its kwargs are {printable(kwargs, limit=SHOWN)}, not an object"
    for name, (is_right, expected) in _CALLS.items():
        value = fields.get(name)
        if value is not None and not is_right(value):
            return _wrong(name, fields, expected)
    return None


def _wrong(name: str, fields: Mapping[str, Any], expected: str) -> str:
    if name not in fields:
        return f"it has no {name}"
    return f"its {name} is {printable(fields[name], limit=SHOWN)!r}, not {expected}"


def _is_text(value: Any) -> bool:
    """Return whether a value is a text without lone surrogates, which UTF-8 cannot encode."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_name(value: Any) -> bool:
    """Return whether a value can be a task's name or id: a text, not empty, that Redis and JSON can store."""
    return bool(value) and _is_text(value)


def _is_id(value: Any) -> bool:
    return is_name(value) or (isinstance(value, (uuid.UUID, int)) and not isinstance(value, bool))


def _is_limits(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(it is None or _is_number(it) for it in value)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _is_time(value: Any) -> bool:
    return is_name(value) or isinstance(value, datetime)


def _is_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


def _is_calls(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_object, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_Rule = tuple[Callable[[Any], bool], str]
_REQUIRED: Final[Mapping[str, _Rule]] = {"task": (is_name, "a text"), "id": (_is_id, "a text")}
_OPTIONAL: Final[Mapping[str, _Rule]] = {
    "shadow": (_is_text, "a text"),
    "retries": (_is_number, "a number"),
    "timelimit": (_is_limits, "two numbers of seconds"),
    "eta": (_is_time, "an ISO 8601 time"),
    "expires": (_is_time, "an ISO 8601 time"),
    "stamped_headers": (_is_names, "an array of texts"),
    "stamps": (_is_object, "an object"),
}
_CALLS: Final[Mapping[str, _Rule]] = {
    "callbacks": (_is_calls, "an array of signatures"),
    "errbacks": (_is_calls, "an array of signatures"),
    "chain": (_is_calls, "an array of signatures"),
    "chord": (_is_object, "a signature"),
}
