"""The page of figures is made of the benchmarks' last lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.bench import all as every


def test_a_benchmark_has_a_line_for_each_figure_with_two_sides() -> None:
    details = {
        "N = 2": {"ours": 1, "peer": 4.25, "ratio": 4, "unit": "ms"},
        "seed": 7,
        "alone": {"ours": 3, "peer": None},
    }
    details["each"] = {"ours": [1, 2], "peer": [3, 4]}
    result = {"name": "probe", "ours": 2, "peer": 1234.5, "ratio": 10, "unit": "ms", "details": details}
    page = every.render({"probe": {"date": "2026-01-02", "machine": "2 cores", "result": result}})
    assert page.splitlines()[-6:] == [
        "|---|---|---|---|---|---|",
        "| **probe** | 2 | 1234 | 10 | ms | 2026-01-02 |",
        "| N = 2 | 1 | 4.25 | 4 | ms |  |",
        "| alone | 3 | – |  |  |  |",
        "",
        "Measured on: 2 cores.",
    ]


def test_the_page_is_made_of_the_kept_results() -> None:
    assert every.PAGE.read_text() == every.render(json.loads(every.FIGURES.read_text()))


@pytest.mark.parametrize("name", [name for section in every.SECTIONS.values() for name in section.benches])
def test_every_benchmark_that_is_run_exists(name: str) -> None:
    assert (Path(every.__file__).parent / f"{name.replace('-', '_')}.py").exists()
