"""The deliberate bugs fit the source as it is, and the verdict about one is read from what pytest says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localcluster.paths import CHECKOUT
from mutants import catalogue
from mutants.catalogue import CatalogueError, Mutant
from mutants.workshop import Verdict, read_outcome

MUTANT = Mutant(
    name="a-bug",
    program="operator",
    file="operator/src/x.py",
    old="return 1",
    new="return 2",
    user="Somebody counts wrong.",
    test="tests/test_x.py::test_it",
)
FILES = {"operator/src/x.py": "def f():\n    return 1\n", "tests/test_x.py": "async def test_it() -> None: ...\n"}


def text_of(path: str) -> str | None:
    """The text of a file of the checkout; of a folder an empty one."""
    place = CHECKOUT / path
    return place.read_text() if place.is_file() else "" if place.is_dir() else None


def write(folder: Path, text: str) -> Path:
    (folder / catalogue.FOLDER).mkdir(parents=True)
    (folder / catalogue.FOLDER / "room.toml").write_text(text)
    return folder


def test_each_deliberate_bug_fits_the_source_as_it_is() -> None:
    mutants = catalogue.read(CHECKOUT).mutants
    assert [problem for mutant in mutants for problem in catalogue.problems(mutant, text_of)] == []


def test_both_programs_have_their_bugs() -> None:
    mutants = catalogue.read(CHECKOUT).chosen([])
    assert len(mutants) >= 300
    assert sum(mutant.program == "worker" for mutant in mutants) >= 80


def test_an_entry_that_fits_has_no_problem() -> None:
    assert list(catalogue.problems(MUTANT, FILES.get)) == []


@pytest.mark.parametrize(
    ("mutant", "said"),
    [
        pytest.param(replace(MUTANT, old="return 3"), "occurs 0 times", id="the source was changed"),
        pytest.param(replace(MUTANT, old="r"), "occurs 2 times", id="the text is not unique"),
        pytest.param(replace(MUTANT, new="return 1"), "is the old one", id="it changes nothing"),
        pytest.param(replace(MUTANT, new="return )"), "not Python", id="it breaks the syntax"),
        pytest.param(replace(MUTANT, file="operator/src/y.py"), "there is no operator/src/y.py", id="the file moved"),
        pytest.param(replace(MUTANT, test="tests/test_y.py"), "there is no tests/test_y.py", id="the test moved"),
        pytest.param(replace(MUTANT, test="tests/test_x.py::test_no"), "has no test_no", id="the test was renamed"),
        pytest.param(replace(MUTANT, test=""), "needs a test", id="no test"),
        pytest.param(replace(MUTANT, equivalent="no difference"), "needs a test, or", id="test and reason"),
        pytest.param(replace(MUTANT, user="wrong"), "must be a sentence", id="no sentence"),
    ],
)
def test_an_entry_that_does_not_fit_says_why(mutant: Mutant, said: str) -> None:
    assert [problem for problem in catalogue.problems(mutant, FILES.get) if said in problem]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[a]\nfile="x"\nold="1"\nnew="2"\nuser="s"', "source must be"),
        ('source="operator/src"\n[a]\nfile="x"\nold="1"\nuser="s"', "has no new"),
        ('source="operator/src"\n[a]\nfile="x"\nold="1"\nnew="2"\nuser="s"\nwhy="?"', "unknown key why"),
    ],
)
def test_a_list_with_a_mistake_says_where_it_is(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=said):
        catalogue.read(write(tmp_path, text))


def test_a_choice_leaves_out_what_no_test_can_notice(tmp_path: Path) -> None:
    entry = 'file="x"\nold="1"\nnew="2"\nuser="s"\n'
    text = (
        f'source="operator/src"\ntest="tests/t.py"\n[one]\n{entry}[two]\n{entry}equivalent="no difference"\ntest=""\n'
    )
    read = catalogue.read(write(tmp_path, text))
    assert [mutant.name for mutant in read.chosen([])] == ["one"]
    assert [mutant.name for mutant in read.chosen(["nothing"])] == []
    assert [mutant.name for mutant in read.equivalent()] == ["two"]


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0, Verdict.SURVIVED), (1, Verdict.KILLED), (2, Verdict.BROKEN), (4, Verdict.BROKEN), (5, Verdict.BROKEN)],
)
def test_only_a_test_that_fails_has_noticed_a_bug(code: int, verdict: Verdict) -> None:
    assert read_outcome(code, "").verdict is verdict


def test_a_report_names_the_tests_that_failed() -> None:
    said = "F\nFAILED tests/a.py::test_b - assert 1 == 2\nERROR tests/c.py::test_d\n1 failed"
    assert read_outcome(1, said).failed == ("tests/a.py::test_b", "tests/c.py::test_d")
