"""How does one thread wake another one that waits for file descriptors?

Waking must not release the GIL. Python releases it for each write to a socket or a pipe; then the woken thread keeps it
for a whole turn, and a thread whose next task is waiting cannot start it. A write to a pipe that is never full does not
block, so it is done with the GIL held.
"""

from __future__ import annotations

import contextlib
import ctypes
import os


class Waker:
    """Wakes a loop that watches `fd`. Any thread may call `wake`, and it does not release the GIL."""

    def __init__(self) -> None:
        self.fd, self._end = os.pipe()
        for fd in (self.fd, self._end):
            os.set_blocking(fd, False)
        self._write = ctypes.PyDLL(None).write
        self._is_waking = False

    def wake(self) -> None:
        """Wake the loop. One byte is enough, however many threads call this."""
        if not self._is_waking:
            self._is_waking = True
            self._write(self._end, b"\0", ctypes.c_size_t(1))

    def woken(self) -> None:
        """Record that the loop is awake and handles all work that is waiting."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 64)
        self._is_waking = False

    def close(self) -> None:
        """Close both ends; nothing watches them any more."""
        for fd in (self.fd, self._end):
            os.close(fd)
