"""How does one thread end the sleep of another, which watches file descriptors?

It must not cost the one that wakes Python's lock. Python lets go of it for each write to a socket or a pipe; then the
other has it for a whole turn, and a thread whose next task is waiting cannot begin it. A write to a pipe that is never
full does not wait, so it is called with the lock held.
"""

from __future__ import annotations

import contextlib
import ctypes
import os


class Waker:
    """Ends the sleep of a loop that watches `fd`. Any thread may wake it, without letting go of Python's lock."""

    def __init__(self) -> None:
        self.fd, self._end = os.pipe()
        for fd in (self.fd, self._end):
            os.set_blocking(fd, False)
        self._write = ctypes.PyDLL(None).write
        self._is_waking = False

    def wake(self) -> None:
        """Let the loop turn; one byte is enough however many want it."""
        if not self._is_waking:
            self._is_waking = True
            self._write(self._end, b"\0", ctypes.c_size_t(1))

    def woken(self) -> None:
        """The loop is awake, and looks now at what there is to do."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 64)
        self._is_waking = False

    def close(self) -> None:
        """Nobody watches any more."""
        for fd in (self.fd, self._end):
            os.close(fd)
