"""Where do writes to `sys.stdout` go while Celery redirects it to its logger?

Celery replaces both streams by a proxy that turns each line into a log record (`worker_redirect_stdouts`). A handler
that looks up `sys.stdout` for each record (rich's, Airflow's) then writes its line into that proxy. The proxy drops it
to prevent endless recursion, so the worker logs nothing. With this module, such a handler writes to the original
stream, and all other code writes to Celery's proxy, so that each line appears once.

With JSON lines, the text that Celery writes in a signal handler without its logger ("Warm shutdown") becomes a JSON
object as well.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from types import FrameType
from typing import Any, Final

_MOST_FRAMES: Final = 60
"""Maximum number of frames that are searched. Handlers write from a few frames below the logger."""


class Redirected:
    """Replaces one of the two streams. It writes to Celery's proxy, or for log handlers to the original stream."""

    def __init__(self, proxy: Any, stream: Any) -> None:
        self.proxy = proxy
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.proxy, name)

    def write(self, data: Any) -> int:
        """Write or log `data`, and return the number of characters."""
        target = self.stream if is_in_a_handler(sys._getframe(1)) else self.proxy
        return int(target.write(data) or 0)

    def writelines(self, lines: Any) -> None:
        """Write or log several strings."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream. The proxy has no buffer."""
        self.stream.flush()


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
    log = app.log
    redirect = log.redirect_stdouts_to_logger

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

    log.redirect_stdouts_to_logger = redirect_stdouts_to_logger


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
