"""(pure) Which deliberate bugs are there, and does each still fit the source?

The bugs are listed in `tests/mutants/`, one file for each room of a program. Each is an exact replacement in one file,
so that it stays a bug that a person could write and a user would feel.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

FOLDER = "tests/mutants"
PROGRAMS = {"operator": "operator/src", "worker": "worker/src"}
"""Programs, and the folder that goes to the front of the import path."""

_FIELDS = {"file", "old", "new", "user", "test", "equivalent"}


class CatalogueError(Exception):
    """A list cannot be read; the message says which entry is wrong."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One deliberate bug."""

    name: str
    """Its name, which is unique."""
    program: str
    """`operator` or `worker`: the environment that the test runs in."""
    file: str
    """The file that is changed, from the root of the checkout."""
    old: str
    """The text that is replaced; it occurs exactly once in the file."""
    new: str
    """The text that replaces it."""
    user: str
    """What a user would suffer."""
    test: str
    """The quickest test that must fail: arguments for pytest, separated by spaces. Empty for an equivalent one."""
    equivalent: str = ""
    """Why no test can tell it from the original; such a mutant is listed and not run. Empty: it is run."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All deliberate bugs."""

    mutants: tuple[Mutant, ...] = field(default=())

    def chosen(self, parts: list[str]) -> tuple[Mutant, ...]:
        """The mutants that are run, whose name, file or test contains one of these texts; no text: all of them."""
        return tuple(
            mutant
            for mutant in self.mutants
            if not mutant.equivalent
            and (not parts or any(part in f"{mutant.name} {mutant.file} {mutant.test}" for part in parts))
        )

    def equivalent(self) -> tuple[Mutant, ...]:
        """The mutants that no test can tell from the original."""
        return tuple(mutant for mutant in self.mutants if mutant.equivalent)


def read(root: Path) -> Catalogue:
    """Read all lists of a checkout.

    Raises:
        CatalogueError: an entry lacks a key, has an unknown one, or a name occurs twice.
    """
    mutants: dict[str, Mutant] = {}
    for path in sorted((root / FOLDER).glob("*.toml")):
        document = tomllib.loads(path.read_text())
        for mutant in _entries(path.name, document):
            if mutant.name in mutants:
                raise CatalogueError(f"{path.name}: the name {mutant.name} is used twice")
            mutants[mutant.name] = mutant
    return Catalogue(mutants=tuple(mutants.values()))


def _entries(name: str, document: Mapping[str, Any]) -> Iterator[Mutant]:
    source, test = document.get("source", ""), document.get("test", "")
    program = source.partition("/")[0]
    if program not in PROGRAMS:
        raise CatalogueError(f"{name}: source must be a folder of {' or '.join(PROGRAMS)}")
    for key, entry in document.items():
        if not isinstance(entry, Mapping):
            continue
        if unknown := entry.keys() - _FIELDS:
            raise CatalogueError(f"{name}: {key} has the unknown key {min(unknown)}")
        if missing := {"file", "old", "new", "user"} - entry.keys():
            raise CatalogueError(f"{name}: {key} has no {min(missing)}")
        yield Mutant(
            name=key,
            program=program,
            file=f"{source}/{entry['file']}",
            old=entry["old"],
            new=entry["new"],
            user=entry["user"],
            test=entry.get("test", test),
            equivalent=entry.get("equivalent", ""),
        )


def mutated(mutant: Mutant, text: str) -> str:
    """The file's text with the bug in it.

    Raises:
        CatalogueError: the old text does not occur exactly once, so the bug does not fit the source any more.
    """
    count = text.count(mutant.old)
    if count != 1:
        raise CatalogueError(
            f"{mutant.name}: its old text occurs {count} times in {mutant.file}, not once. Write the same bug for the "
            f"source as it is now (in {FOLDER}): {mutant.user}"
        )
    return text.replace(mutant.old, mutant.new)


def problems(mutant: Mutant, read_text: Callable[[str], str | None]) -> Iterator[str]:
    """What is wrong with an entry; nothing: it fits the source and names tests that exist.

    Args:
        read_text: the text of a file of the checkout; None: there is none.
    """
    text = read_text(mutant.file)
    if text is None:
        yield f"{mutant.name}: there is no {mutant.file}"
        return
    try:
        after = mutated(mutant, text)
        ast.parse(after)
    except CatalogueError as error:
        yield str(error)
    except SyntaxError as error:
        yield f"{mutant.name}: with its new text {mutant.file} is not Python any more: {error}"
    else:
        if after == text:
            yield f"{mutant.name}: its new text is the old one"
    if not mutant.user.endswith("."):
        yield f"{mutant.name}: `user` must be a sentence"
    if bool(mutant.test) == bool(mutant.equivalent):
        yield f"{mutant.name}: it needs a test, or the reason why it is equivalent"
    yield from _missing_tests(mutant, read_text)


def _missing_tests(mutant: Mutant, read_text: Callable[[str], str | None]) -> Iterator[str]:
    for argument in mutant.test.split():
        path, _, name = argument.partition("::")
        text = read_text(path)
        function = name.partition("[")[0]
        if text is None:
            yield f"{mutant.name}: there is no {path}"
        elif function and not re.search(rf"^(async )?def {re.escape(function)}\(", text, re.MULTILINE):
            yield f"{mutant.name}: {path} has no {function}"
