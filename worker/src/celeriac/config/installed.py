"""Which releases of distributions are installed here?"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from typing import Final

LEAST: Final = {"redis": (4, 2)}
"""The oldest releases with which the library runs on a Redis broker: it uses `redis.backoff` and `redis.retry`."""
RELEASE: Final = "0.1.0"
"""This library's own version, for images that contain a copy of the source instead of an installed distribution."""


def version(distribution: str = "celeriac") -> str:
    """Return the version of a distribution, or `unknown`."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return RELEASE if distribution == "celeriac" else "unknown"


def releases(distributions: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the major and minor version number of each of these distributions that is installed."""
    found = {}
    for name in distributions:
        numbers = re.findall(r"\d+", version(name))[:2]
        if numbers:
            found[name] = tuple(map(int, numbers))
    return found
