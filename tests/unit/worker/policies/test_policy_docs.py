"""docs/guides/policies.md: its table and the tests say the same cells, and its examples run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import celery
import pytest
from tests.integration.worker.policies import policy_cells

import celeriac
from celeriac import testing

PAGE = Path(__file__).parents[4] / "docs" / "guides" / "policies.md"


def table(title: str) -> list[list[str]]:
    """The rows of the table under a title, its head first."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|--")]


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_every_cell_of_the_table_has_a_test_and_every_tested_cell_stands_in_it() -> None:
    for module in Path(policy_cells.__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.integration.worker.policies.{module.stem}")  # its tests name their cells

    head, *rows = table("What happens when")
    documented = {(row[0], policy) for row in rows for policy in head[1:]}
    assert documented == set(policy_cells.CELLS)


def test_no_cell_is_empty() -> None:
    rows = table("What happens when")
    assert {len(row) for row in rows} == {1 + len(policy_cells.POLICIES)}
    assert all(cell for row in rows[1:] for cell in row)


def test_every_policy_is_listed_with_its_options() -> None:
    _, *rows = table_of_policies()
    assert [row[0].strip("`") for row in rows] == list(policy_cells.POLICIES)
    for name, *_, options in rows:
        fields = set(getattr(celeriac, name.strip("`")).__dataclass_fields__) - {"key", "_"}
        assert set(re.findall(r"`(\w+)", options)) - {"start"} == fields


def table_of_policies() -> list[list[str]]:
    lines = [it for it in PAGE.read_text().split("\n**Redis.**")[0].splitlines() if it.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|--")]


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """The names that the page's examples define, run one after the other as one module."""
    module = ModuleType("policies_page")
    sys.modules[module.__name__] = module
    before = celery.current_app._get_current_object()
    app = celery.Celery("page", broker="memory://")
    module.__dict__["app"] = app
    try:
        for example in examples():
            exec(example, module.__dict__)  # noqa: S102 - the page's own text
        app.finalize()
        yield module.__dict__
    finally:
        before.set_current()
        del sys.modules[module.__name__]


def test_the_examples_run(page: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tests = [value for name, value in page.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        if "celeriac_calls" in test.__code__.co_varnames[: test.__code__.co_argcount]:
            with testing.policies(page["app"]) as calls:
                test(calls)
        else:
            test()
    assert "notify[7]: Throttle keeps" in capsys.readouterr().out
