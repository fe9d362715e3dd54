"""Wall clocks that a campaign can step, one for each host.

No test may step the machine's own clock. A small library (`clock.c`), which is compiled once for each campaign, stands
in front of the C library of a process and adds an offset to its wall clock. Monotonic clocks are not changed.
"""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "clock.c"


def build(directory: Path) -> Path:
    """Compile the library; return its path."""
    library = directory / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
    return library


@dataclass(slots=True)
class Clock:
    """The wall clock of one host.

    Args:
        library: what `build` has made.
        path: a file for the offset; it is made here.
    """

    library: Path
    path: Path
    seconds: int = 0
    """What is added to the machine's time."""

    def __post_init__(self) -> None:
        self.step_to(0)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that give a process this clock."""
        return {"LD_PRELOAD": str(self.library), "STEPPED_CLOCK_FILE": str(self.path)}

    def step_to(self, seconds: int) -> None:
        """Set the offset; every process with this clock sees it at once."""
        self.seconds = seconds
        # The file stays the same one, because processes have mapped it.
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
