"""The corners of the range of versions: their locks say what they promise, and nothing is fetched by address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from matrix.corners import CORNERS, SHORT

ROOT = Path(__file__).parents[3]


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \\]+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_oldest_corner_is_the_oldest_that_the_library_asks_for() -> None:
    asked = dict(
        re.findall(
            r'^  "([a-z-]+)(?:\[[a-z]+\])?>=([\d.]+)"', (ROOT / "worker/pyproject.toml").read_text(), re.MULTILINE
        )
    )
    oldest = pinned("worker/requirements-oldest.lock")
    for name, version in asked.items():
        assert oldest[name].startswith(version), f"{name} {oldest[name]} is not the oldest, {version}"


def test_the_oldest_python_is_the_oldest_that_the_library_asks_for() -> None:
    (oldest,) = re.findall(r'requires-python = ">=([\d.]+)"', (ROOT / "worker/pyproject.toml").read_text())
    assert next(it for it in CORNERS if it.name == "oldest").pythons == (oldest,)


@pytest.mark.parametrize("lock", sorted({"tools/matrix/servers.lock", *(it.lock for it in CORNERS)}))
def test_a_lock_has_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_the_short_form_names_tests_that_exist() -> None:
    assert [it for it in SHORT if not (ROOT / "tests/integration/worker" / it).exists()] == []
