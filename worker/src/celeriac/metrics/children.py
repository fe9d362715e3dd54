"""How do the counts of a pool's processes reach their parent?

Through one pipe that the parent opens before the pool starts and every child inherits. A child writes a line for each
count, in one piece (a line is shorter than what a pipe takes at once), and without waiting: while nobody reads and the
pipe is full, counts are dropped, for a task must not wait for its metrics. The parent empties the pipe once a second
and before each scrape. No files, and nothing to clean up when a child dies.

The parent's own thread only ever sleeps and reads what is there, so it also fits pools of green threads.
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
"""POSIX's least size up to which a write into a pipe is one piece."""
CHUNK: Final = 65536


class ChildCounts:
    """Receives what the children of this process count.

    Args:
        receive: told of each count of a child, in the parent.
    """

    def __init__(self, receive: Receiver) -> None:
        self.receive = receive
        self._definitions = {it.name: it for it in counts.definitions()}
        self._lock = threading.Lock()
        self._loop = Loop(self.read, name="counts", seconds=READ_SECONDS)
        self._rest = b""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Open as long as the process. Files, which never wait here: eventlet's `os.read` and `os.write` would.
        self._reading = io.FileIO(reading, "r", closefd=False)
        self._writing = io.FileIO(writing, "w", closefd=False)

    def start(self) -> None:
        """From now on processes that this one forks count into the pipe."""
        os.register_at_fork(after_in_child=self._become_child)
        self._loop.start()

    def stop(self) -> None:
        """Read no more, but for a scrape."""
        self._loop.stop()

    def _become_child(self) -> None:
        counts.receive_by(self.send)

    def send(self, what: Count | Timing, value: float, labels: tuple[str, ...]) -> None:
        """Write one count into the pipe, or drop it."""
        line = json.dumps([what.name, value, *labels]).encode() + b"\n"
        if len(line) <= LONGEST_LINE:
            with contextlib.suppress(OSError):  # the parent is gone; a full pipe takes nothing and says nothing
                self._writing.write(line)

    def read(self) -> int:
        """Take everything that is in the pipe; how many counts that was."""
        taken = 0
        with self._lock:
            while chunk := self._reading.read(CHUNK):  # nothing: `None`
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
