"""Where do writes to `sys.stdout` go while Celery redirects it to its logger?

Celery replaces both streams by a proxy that turns each line into a log record (`worker_redirect_stdouts`). A handler
that looks up `sys.stdout` for each record (rich's, Airflow's) then writes its line into that proxy. The proxy drops it
to prevent endless recursion, so the worker logs nothing. With this module, such a handler writes to the original
stream, and all other code writes to Celery's proxy, so that each line appears once.

`print("a", 3)` writes four pieces, and Celery would log each of them. So the pieces of a line are collected in their
thread until its end, a `flush`, or the end of the task, and logged as one record.

With JSON lines, the text that Celery writes in a signal handler without its logger ("Warm shutdown") becomes a JSON
object as well.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import threading
from types import FrameType
from typing import Any, Final

from celery import signals
from celery.utils import log

_MOST_FRAMES: Final = 60
"""Maximum number of frames that are searched. Handlers write from a few frames below the logger."""

LONGEST_PIECE: Final = 65_536
"""Characters of a line without an end that are collected; a longer one is logged in several records."""


class Redirected:
    """Replaces one of the two streams. It writes to Celery's proxy, or for log handlers to the original stream."""

    def __init__(self, proxy: Any, stream: Any) -> None:
        self.proxy = proxy
        self.stream = stream
        self._begun = threading.local()  # of each greenlet where threads are patched

    def __getattr__(self, name: str) -> Any:
        return getattr(self.proxy, name)

    def write(self, data: Any) -> int:
        """Write `data`, or log it with what it ends, and return the number of characters."""
        if is_in_a_handler(sys._getframe(1)):
            return int(self.stream.write(data) or 0)
        # The interrupted code may be in the middle of this method. Celery writes at once here too.
        if _is_in_a_signal_handler() or not isinstance(data, str):
            return int(self.proxy.write(data) or 0)
        self._collect(data)
        return len(data)

    def _collect(self, piece: str) -> None:
        begun = self._begun.__dict__
        begun.setdefault("pieces", []).append(piece)
        begun["length"] = begun.get("length", 0) + len(piece)
        # A text of several lines, such as a traceback, stays one record, as in Celery.
        if piece.endswith("\n") or begun["length"] >= LONGEST_PIECE:
            self._log(self._take())
        else:
            _end_lines_with_their_task()

    def _take(self) -> str:
        begun = self._begun.__dict__
        begun["length"] = 0
        return "".join(begun.pop("pieces", ()))

    def _log(self, text: str) -> None:
        if text:
            self.proxy.write(text)

    def writelines(self, lines: Any) -> None:
        """Write or log several strings."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log the line that this thread has begun, and flush the stream."""
        # Python calls this once more when it ends. What threads have kept is gone then; `install` logs it before.
        if not (sys.is_finalizing() or _is_in_a_signal_handler() or is_in_a_handler(sys._getframe())):
            self._log(self._take())
        self.stream.flush()


def _is_in_a_signal_handler() -> bool:
    """Whether one of the worker's signal handlers writes."""
    return bool(getattr(log, "_in_sighandler", False))  # missing from the published stubs


def _end_lines_with_their_task() -> None:
    """Log at the end of each task the line that it has begun. Most applications never need this."""
    signals.task_postrun.connect(_end_lines, weak=False, dispatch_uid="celeriac-lines")


def _end_lines(**_: Any) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Redirected):
            stream.flush()


def is_in_a_handler(frame: FrameType | None) -> bool:
    """Whether this frame was called, directly or not, while a log record was passed to its handlers."""
    delivery = logging.Logger.callHandlers.__code__
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return False
        if frame.f_code is delivery:
            return True
        frame = frame.f_back
    return False


def install(app: Any) -> None:
    """Make Celery's redirection keep the lines of log handlers. Each child of a pool redirects its streams again."""
    redirect = app.log.redirect_stdouts_to_logger

    @functools.wraps(redirect)
    def redirect_stdouts_to_logger(*args: Any, **kwargs: Any) -> Any:
        before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        proxy = redirect(*args, **kwargs)
        for name, stream in before.items():
            now = getattr(sys, name)
            if now is not stream and stream is not None:
                # A child inherits its parent's redirection. It needs the original stream.
                setattr(sys, name, Redirected(now, stream.stream if isinstance(stream, Redirected) else stream))
        return proxy

    app.log.redirect_stdouts_to_logger = redirect_stdouts_to_logger
    atexit.register(_end_lines)


def say_in_lines(formatter: logging.Formatter) -> None:
    """Format the lines that Celery writes in signal handlers like all other lines."""
    from celery.apps import worker

    def safe_say(message: Any, *_: Any, **__: Any) -> None:
        record = logging.LogRecord("celery.apps.worker", logging.INFO, "", 0, str(message).strip(), (), None)
        stream = sys.__stderr__
        # Write to the descriptor, as Celery does: the interrupted code may hold the lock of a handler or a buffer.
        if stream is not None:
            os.write(stream.fileno(), f"{formatter.format(record)}\n".encode(errors="backslashreplace"))

    setattr(worker, "safe_say", safe_say)  # noqa: B010 - missing from the published stubs
