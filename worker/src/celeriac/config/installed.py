"""Which releases are installed here?"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from typing import Final

LEAST: Final = {"redis": (4, 2)}
"""What the library does not run without on a Redis broker: `redis.backoff` and `redis.retry` as they are since then."""
RELEASE: Final = "0.1.0"
"""This library's own version, for an image that has a copy of the source and no installed distribution."""


def version(distribution: str = "celeriac") -> str:
    """The version of a distribution, or `unknown`."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return RELEASE if distribution == "celeriac" else "unknown"


def releases(distributions: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Major and minor number of each of these that is installed."""
    found = {}
    for name in distributions:
        numbers = re.findall(r"\d+", version(name))[:2]
        if numbers:
            found[name] = tuple(map(int, numbers))
    return found
