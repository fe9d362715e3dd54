"""Clusters for the tests in this folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import pytest
from tests.integration.tools.machine import Machine, new_machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A place for a cluster that a test starts and breaks by itself."""
    yield from new_machine()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    """A running cluster, shared by the tests of a module."""
    for place in new_machine():
        place("up")
        yield place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The embedded cluster is for Linux and root; elsewhere the end-to-end tests run in kind, and these say why not."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        reason = pytest.mark.skip(reason="the embedded cluster needs Linux and root; kind is used here")
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(reason)
