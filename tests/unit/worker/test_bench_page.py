"""The page of figures is made of the benchmarks' last lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench import all as every


def test_the_page_has_a_line_for_each_figure_with_two_sides() -> None:
    result = {"name": "lock", "ours": 2, "peer": 20, "ratio": 10, "unit": "ms"}
    details = {"N = 2": {"ours": 1, "peer": 4, "ratio": 4, "unit": "ms"}, "seed": 7, "commands": {"ours": 3, "peer": 9}}
    page = every.render([{**result, "details": details}], machine="2 cores", date="2026-01-02")
    assert "Measured on 2026-01-02: 2 cores." in page
    assert page.splitlines()[-3:] == [
        "| **lock** | 2 | 20 | 10 | ms |",
        "| N = 2 | 1 | 4 | 4 | ms |",
        "| commands | 3 | 9 |  |  |",
    ]


@pytest.mark.parametrize("name", every.BENCHES)
def test_every_benchmark_that_is_run_exists(name: str) -> None:
    assert (Path(every.__file__).parent / f"{name.replace('-', '_')}.py").exists()
