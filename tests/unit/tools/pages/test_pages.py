"""Every relative link of every Markdown file leads to a file and to a heading, and no page is left out of the index."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from localcluster.paths import CHECKOUT

FOLDERS = ("charts", "docs", "examples", "operator", "tests", "tools", "worker")
PAGES = sorted([*CHECKOUT.glob("*.md"), *(page for folder in FOLDERS for page in (CHECKOUT / folder).rglob("*.md"))])
FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
PATH = re.compile(r"`(?:\./)?((?:charts|crds|deploy|docs|examples|operator|tests|tools|worker)/[\w./-]*)`")
MAKE = re.compile(r"(?:`|^\$ |^)make ([a-z][a-z0-9-]*[a-z0-9])", re.MULTILINE)
TARGET = re.compile(r"^(?:#: )?([a-z][a-z0-9-]*):", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def anchors(text: str) -> set[str]:
    """The anchors of a page, as GitHub and GitLab make them from its headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def links(text: str) -> list[str]:
    """The targets of a page's links that are relative; links in code do not count."""
    targets = [first or second for first, second in LINK.findall(CODE.sub("", FENCE.sub("", text)))]
    return [target for target in targets if not re.match(r"[a-z][a-z+.-]*:|//", target)]


def broken(page: Path, target: str) -> str:
    """Why a link does not resolve; empty where it does."""
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    if CHECKOUT not in (there, *there.parents):
        return f"{target}: outside the repository"
    if not there.exists():
        return f"{target}: no such file"
    if anchor and (there.suffix != ".md" or anchor not in anchors(there.read_text())):
        return f"{target}: no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_resolves(page: Path) -> None:
    assert [why for target in links(page.read_text()) if (why := broken(page, target))] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in PATH.findall(page.read_text()) if not (CHECKOUT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_that_a_page_names_exists(page: Path) -> None:
    targets = set(TARGET.findall((CHECKOUT / "Makefile").read_text()))
    text = page.read_text()
    code = "\n".join(match[0] for pattern in (FENCE, CODE) for match in pattern.finditer(text))
    assert [target for target in MAKE.findall(code) if target not in targets] == []


def test_every_benchmark_has_a_line_in_the_help_and_a_file() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for bench in re.findall(r"^#: bench-([a-z-]+):", makefile, re.MULTILINE):
        assert (CHECKOUT / f"tests/bench/{bench.replace('-', '_')}.py").exists(), bench
    for bench in re.findall(r'^        "([a-z-]+)",$', (CHECKOUT / "tests/bench/all.py").read_text(), re.MULTILINE):
        assert f"#: bench-{bench}: " in makefile, bench


def test_the_index_leads_to_every_page() -> None:
    reached, waiting = set(), [CHECKOUT / "docs" / "README.md"]
    while waiting:
        current = waiting.pop()
        reached.add(current)
        targets = [(current.parent / target.partition("#")[0]).resolve() for target in links(current.read_text())]
        waiting += [there for there in targets if there in PAGES and there not in {*reached, *waiting}]
    assert [name(page) for page in PAGES if "docs" in page.parts and page not in reached] == []


@pytest.mark.parametrize("package", ["operator", "worker"])
def test_a_packages_long_description_has_no_relative_link(package: str) -> None:
    # It is read outside this repository, where nothing is at the other end.
    assert links((CHECKOUT / package / "README.md").read_text()) == []


@pytest.mark.parametrize(
    ("text", "target", "why"),
    [
        pytest.param("[a](there.md)", "there.md", "", id="a file"),
        pytest.param("[a](there.md#two-words)", "there.md#two-words", "", id="a heading"),
        pytest.param("[a](#here)", "#here", "", id="a heading of the same page"),
        pytest.param("[a](gone.md)", "gone.md", "gone.md: no such file", id="no file"),
        pytest.param("[a](there.md#gone)", "there.md#gone", "there.md#gone: no such heading", id="no heading"),
        pytest.param('[a](there.md "Title")', "there.md", "", id="a link with a title"),
        pytest.param("[a]: there.md", "there.md", "", id="a reference"),
    ],
)
def test_a_link_is_found_and_followed(text, target, why, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.CHECKOUT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n{text}\n```\n[not](followed.md)\n```\nand `[not](this.md)`\n")
    (tmp_path / "there.md").write_text("# Two `words`\n")
    assert links(page.read_text()) == [target]
    assert broken(page, target) == why


def test_equal_headings_have_anchors_of_their_own() -> None:
    assert anchors("# A b\n## A b\n### c (d)\n```\n# no\n```\n") == {"a-b", "a-b-1", "c-d"}
