"""Who writes to `sys.stdout` while Celery redirects it to its logger?

Celery replaces both streams by a proxy that makes a log record of each line (`worker_redirect_stdouts`). A handler that
looks up `sys.stdout` for each record (rich's, Airflow's) then writes its line into that proxy, which drops it so as not
to run in circles: the worker is mute. Here such a handler reaches the stream that was there before, and everybody else
reaches Celery's proxy, so that each line appears once.

With JSON lines, what Celery itself writes past its logger in a signal handler ("Warm shutdown") becomes a JSON object
as well.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from types import FrameType
from typing import Any, Final

_MOST_FRAMES: Final = 60
"""How far up a write is traced; handlers write from a few frames below the logger."""


class Redirected:
    """Stands for one of the two streams: Celery's proxy, and for handlers the stream that was there before."""

    def __init__(self, proxy: Any, stream: Any) -> None:
        self.proxy = proxy
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.proxy, name)

    def write(self, data: Any) -> int:
        """Write `data`, or log it; the number of characters."""
        target = self.stream if is_in_a_handler(sys._getframe(1)) else self.proxy
        return int(target.write(data) or 0)

    def writelines(self, lines: Any) -> None:
        """Write or log several strings."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream; the proxy has no buffer."""
        self.stream.flush()


def is_in_a_handler(frame: FrameType | None) -> bool:
    """Is this frame below the delivery of a log record to its handlers?"""
    delivery = logging.Logger.callHandlers.__code__
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return False
        if frame.f_code is delivery:
            return True
        frame = frame.f_back
    return False


def install(app: Any) -> None:
    """Let Celery's redirection of an application keep what handlers write; children of a pool redirect anew."""
    log = app.log
    redirect = log.redirect_stdouts_to_logger

    @functools.wraps(redirect)
    def redirect_stdouts_to_logger(*args: Any, **kwargs: Any) -> Any:
        before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        proxy = redirect(*args, **kwargs)
        for name, stream in before.items():
            now = getattr(sys, name)
            if now is not stream and stream is not None:
                # A child inherits its parent's redirection: what it wants is the stream below that one.
                setattr(sys, name, Redirected(now, stream.stream if isinstance(stream, Redirected) else stream))
        return proxy

    log.redirect_stdouts_to_logger = redirect_stdouts_to_logger


def say_in_lines(formatter: logging.Formatter) -> None:
    """Give the lines that Celery writes from signal handlers the format of all others."""
    from celery.apps import worker

    def safe_say(message: Any, *_: Any, **__: Any) -> None:
        record = logging.LogRecord("celery.apps.worker", logging.INFO, "", 0, str(message).strip(), (), None)
        stream = sys.__stderr__
        # As Celery does: a signal handler may interrupt whoever holds the lock of a handler or a buffer.
        if stream is not None:
            os.write(stream.fileno(), f"{formatter.format(record)}\n".encode(errors="backslashreplace"))

    setattr(worker, "safe_say", safe_say)  # noqa: B010 - missing from the published stubs
