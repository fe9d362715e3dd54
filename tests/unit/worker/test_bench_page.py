"""The page of figures is made of the benchmarks' last lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench import all as every


def test_a_section_has_a_line_for_each_figure_with_two_sides() -> None:
    result = {"name": "lock", "ours": 2, "peer": 20, "ratio": 10, "unit": "ms"}
    details = {"N = 2": {"ours": 1, "peer": 4, "ratio": 4, "unit": "ms"}, "seed": 7, "alone": {"ours": 3, "peer": None}}
    details["each"] = {"ours": [1, 2], "peer": [3, 4]}
    text = every.render(every.WORKER, [{**result, "details": details}], machine="2 cores", date="2026-01-02")
    assert "`make bench` on 2026-01-02: 2 cores." in text
    assert text.splitlines()[-3:] == [
        "| **lock** | 2 | 20 | 10 | ms |",
        "| N = 2 | 1 | 4 | 4 | ms |",
        "| alone | 3 | – |  |  |",
    ]


def test_a_section_is_written_anew_and_the_others_stay() -> None:
    page = every.merge(every.HEAD, every.OPERATOR, "## The operator\nold\n")
    page = every.merge(page, every.WORKER, "## The worker library\nfigures\n")
    page = every.merge(page, every.OPERATOR, "## The operator\nnew\n")
    assert page == f"{every.HEAD}\n## The worker library\nfigures\n\n## The operator\nnew\n"


@pytest.mark.parametrize("name", [name for section in every.SECTIONS.values() for name in section.benches])
def test_every_benchmark_that_is_run_exists(name: str) -> None:
    assert (Path(every.__file__).parent / f"{name.replace('-', '_')}.py").exists()
