"""The chart's README is written from values.yaml: every value is in it, with its default and its comment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

import chart_page
from chart_page import Value
from localcluster.paths import CHECKOUT

CHART = CHECKOUT / "charts/celeriac"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_value_is_read_with_its_default() -> None:
    text = (CHART / "values.yaml").read_text()
    known = {value.path: value.default for value in chart_page.read(text)}
    for path, default in leaves(yaml.safe_load(text)):
        # `resources` has mappings on one line, which are one value to the page.
        shown = path if path in known else path.rpartition(".")[0]
        assert shown in known, path
        if shown == path:
            assert yaml.safe_load(known[path]) == default


def test_the_page_in_the_repository_is_current() -> None:
    assert (CHART / "README.md").read_text() == chart_page.build(CHART)


def test_a_comment_belongs_to_the_key_below_it() -> None:
    text = """\
# Not for the page.

# -- The image,
# on two lines.
image:
  # -- Its tag.
  tag: "" # a remark
  name: x

# -- Not followed by a key.

other: []
"""
    assert list(chart_page.read(text)) == [
        Value("image", "", "The image, on two lines."),
        Value("image.tag", '""', "Its tag."),
        Value("image.name", "x", ""),
        Value("other", "[]", ""),
    ]
