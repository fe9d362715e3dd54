"""Which images there are, what each is made from, and the tag that follows from it.

An image's tag is a hash of everything that it is made from: what has not changed is not built again, and what has gets
a new name, so that a cluster never runs an old image under a new pod.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from localcluster.errors import LocalClusterError
from localcluster.paths import CHECKOUT

CATALOGUE = Path(__file__).with_name("images.toml")
# What tools leave beside the source. Never part of an image.
IGNORED = ("__pycache__", "*.pyc", "*.egg-info", ".*_cache", ".hypothesis", ".git", "node_modules")
TAG_DIGITS = 12


@dataclass(frozen=True)
class Recipe:
    """One image of images.toml."""

    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    target: str = ""


def parse(catalogue: Mapping[str, Any]) -> dict[str, Recipe]:
    """(pure) The catalogue's content as recipes. A key that is missing or unknown is an error."""
    recipes = {}
    for name, table in catalogue.items():
        unknown = table.keys() - {"dockerfile", "inputs", "target"}
        missing = {"dockerfile", "inputs"} - table.keys()
        if unknown or missing:
            wrong = [f"unknown: {key}" for key in sorted(unknown)] + [f"missing: {key}" for key in sorted(missing)]
            raise LocalClusterError(f"images.toml, [{name}]: {', '.join(wrong)}")
        recipes[name] = Recipe(name, table["dockerfile"], tuple(table["inputs"]), table.get("target", ""))
    return recipes


def read(path: Path = CATALOGUE) -> dict[str, Recipe]:
    return parse(tomllib.loads(path.read_text()))


def files(recipe: Recipe, checkout: Path = CHECKOUT) -> list[Path]:
    """Every file of an image's context, relative to the checkout."""
    found = set()
    for name in (recipe.dockerfile, *recipe.inputs):
        path = checkout / name
        if path.is_dir():
            found |= {file.relative_to(checkout) for file in _walk(path)}
        elif path.exists():
            found.add(Path(name))
        else:
            raise LocalClusterError(f"images.toml, [{recipe.name}]: there is no {name}")
    return sorted(found)


def tag(recipe: Recipe, base: str, checkout: Path = CHECKOUT) -> str:
    """The image's tag; `base` identifies the base image."""
    entries = [
        (str(file), os.access(checkout / file, os.X_OK), hashlib.sha256((checkout / file).read_bytes()).hexdigest())
        for file in files(recipe, checkout)
    ]
    text = json.dumps([base, recipe.dockerfile, recipe.target, entries])
    return hashlib.sha256(text.encode()).hexdigest()[:TAG_DIGITS]


def stage(recipe: Recipe, folder: Path, checkout: Path = CHECKOUT) -> None:
    """Copy an image's context into a folder.

    Times are set to zero: a layer is found again by what it is made from, of which times are a part.
    """
    for file in files(recipe, checkout):
        copy = folder / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / file, copy)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (0, 0))


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in IGNORED):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
