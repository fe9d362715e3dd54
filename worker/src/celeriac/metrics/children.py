"""How do the counts of a pool's processes reach their parent?

The parent opens one pipe before the pool starts, and every child inherits it. A child writes a line for each count. The
write is atomic, because a line is short enough for a pipe, and it does not block. If the pipe is full, counts are
dropped, because a task must not wait for its metrics. The parent empties the pipe once a second and before each scrape.
There are no files, and there is nothing to clean up when a child dies.

The parent's thread only sleeps and reads available data, so this also works with pools of green threads.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from typing import Final

from celeriac import counts
from celeriac.counts import Count, Receiver, Timing
from celeriac.loop import Loop

READ_SECONDS: Final = 1.0
LONGEST_LINE: Final = 512
"""The smallest limit that POSIX allows for atomic writes to a pipe, in bytes."""
CHUNK: Final = 65536


class ChildCounts:
    """Receives the counts of this process's children.

    Args:
        receive: called in the parent for each count of a child.
    """

    def __init__(self, receive: Receiver) -> None:
        self.receive = receive
        self._definitions = {it.name: it for it in counts.definitions()}
        self._lock = threading.Lock()
        self._loop = Loop(self.read, name="counts", seconds=READ_SECONDS)
        self._rest = b""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Both stay open until the process ends. File objects do not block here; eventlet's `os.read` and `os.write` do.
        self._reading = io.FileIO(reading, "r", closefd=False)
        self._writing = io.FileIO(writing, "w", closefd=False)

    def start(self) -> None:
        """Make all processes that this one forks from now on write their counts into the pipe."""
        os.register_at_fork(after_in_child=self._become_child)
        self._loop.start()

    def stop(self) -> None:
        """Stop reading, except at a scrape."""
        self._loop.stop()

    def _become_child(self) -> None:
        counts.receive_by(self.send)

    def send(self, what: Count | Timing, value: float, labels: tuple[str, ...]) -> None:
        """Write one count into the pipe, or drop it if the pipe is full."""
        line = json.dumps([what.name, value, *labels]).encode() + b"\n"
        if len(line) <= LONGEST_LINE:
            with contextlib.suppress(OSError):  # the parent has ended; a full pipe raises nothing
                self._writing.write(line)

    def read(self) -> int:
        """Read everything from the pipe, and return the number of counts."""
        taken = 0
        with self._lock:
            while chunk := self._reading.read(CHUNK):  # `None` if empty
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    taken += self._take(line)
        return taken

    def _take(self, line: bytes) -> bool:
        name, value, *labels = json.loads(line)
        what = self._definitions.get(name)
        if what is not None:
            self.receive(what, value, tuple(labels))
        return what is not None
