"""Where things are: the cache, which outlives a cluster, and a cluster's home, which does not.

Both are outside the checkout, so that `git clean` does not delete ten minutes of building.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
CHECKOUT = TOOLS.parent


@dataclass(frozen=True)
class Cache:
    """Programs, Go's caches and images. Everything in it can be made again; removing it costs only time."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """`$CELERIAC_CACHE`, else `~/.cache/celeriac`."""
        return cls(Path(os.environ.get("CELERIAC_CACHE") or "~/.cache/celeriac").expanduser().absolute())

    @property
    def bin(self) -> Path:
        """The programs, and beside each a stamp that says what it was built from."""
        return self.root / "bin"

    @property
    def go(self) -> Path:
        """GOPATH; GOCACHE is its `cache` folder. May be removed once everything is built (about 9 GB)."""
        return self.root / "go"

    @property
    def src(self) -> Path:
        """The generated go.mod of each module."""
        return self.root / "src"

    @property
    def images(self) -> Path:
        """Image archives and root file systems."""
        return self.root / "images"

    @property
    def temporary(self) -> Path:
        """What an image build needs while it runs."""
        return self.root / "tmp"

    @property
    def buildah(self) -> Path:
        """buildah's storage."""
        return self.root / "buildah"

    @property
    def cluster(self) -> Path:
        """Home of the embedded cluster: `$CELERIAC_CLUSTER_HOME`, else `cluster/` in the cache."""
        named = os.environ.get("CELERIAC_CLUSTER_HOME")
        return Path(named).expanduser().absolute() if named else self.root / "cluster"

    def program(self, name: str) -> Path:
        return self.bin / name
