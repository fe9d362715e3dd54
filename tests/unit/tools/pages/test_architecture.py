"""The page about the architecture names every room and every module of both programs, and none that is gone."""

from __future__ import annotations

import re

import pytest

from localcluster.paths import CHECKOUT

PAGE = (CHECKOUT / "docs/project/architecture.md").read_text()
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text()
PROGRAMS = {"The operator": "operator/src/celeriac_operator", "The worker library": "worker/src/celeriac"}
PATH = re.compile(r"`([\w.-]+/[\w./-]*)`")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", section(title), re.MULTILINE)


@pytest.mark.parametrize(("title", "folder"), PROGRAMS.items(), ids=PROGRAMS.values())
def test_the_rooms_are_those_of_the_source(title: str, folder: str) -> None:
    root = CHECKOUT / folder
    there = {f"{path.parent.relative_to(root)}/" for path in root.rglob("__init__.py") if path.parent != root}
    assert {name for name in first_cells(title) if name.endswith("/")} == there


@pytest.mark.parametrize(("title", "folder"), PROGRAMS.items(), ids=PROGRAMS.values())
def test_the_modules_outside_the_rooms_are_those_of_the_source(title: str, folder: str) -> None:
    there = {path.stem for path in (CHECKOUT / folder).glob("*.py")} - {"__init__"}
    assert {name for name in first_cells(title) if not name.endswith("/")} == there


@pytest.mark.parametrize("text", [PAGE, CONTRIBUTING], ids=["architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_is_named_exists(text: str) -> None:
    rooms = {room for folder in PROGRAMS.values() for room in _folders(folder)}
    assert [path for path in PATH.findall(text) if path not in rooms and not (CHECKOUT / path).exists()] == []


def _folders(folder: str) -> list[str]:
    root = CHECKOUT / folder
    return [f"{path.parent.relative_to(root)}/" for path in root.rglob("__init__.py")]
