"""Has the kernel killed a process of this container because its memory limit was reached?

The kernel counts such kills for each control group. In a container the counter is that of the container itself. Where
it kills the whole container, which is what Kubernetes asks for since 1.28, nobody is left to read it; the operator then
reports the kill from the container's state.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_FILES: Final = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""In version 2 and version 1 of control groups."""
_KILLS: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """Counts the kills since the start of this worker.

    Args:
        files: the kernel's counter; the first file that has one is used.
    """

    def __init__(self, files: tuple[str, ...] = _FILES) -> None:
        self.files = files
        self._seen = self._read()

    def new(self) -> int:
        """The kills since the previous call."""
        seen = self._read()
        new, self._seen = max(0, seen - self._seen), seen
        return new

    def _read(self) -> int:
        for file in self.files:
            try:
                found = _KILLS.search(Path(file).read_text())
            except OSError:
                continue
            if found:
                return int(found[1])
        return 0
