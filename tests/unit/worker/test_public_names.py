"""The package's surface: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import celeriac


def test_names_are_sorted_and_there() -> None:
    assert list(celeriac.__all__) == sorted(celeriac.__all__)
    for name in celeriac.__all__:
        assert getattr(celeriac, name).__name__ == name
    assert set(celeriac.__all__) <= set(dir(celeriac))


def test_every_lazy_name_is_public_and_every_public_name_is_lazy() -> None:
    assert set(celeriac._HOMES) == set(celeriac.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Lokc'"):
        celeriac.Lokc  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test


def test_importing_the_package_loads_neither_celery_nor_redis() -> None:
    code = "import sys, celeriac; print(sorted({'celery', 'kombu', 'redis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
