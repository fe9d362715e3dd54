"""What the two distributions say about themselves."""

from __future__ import annotations

import pytest
import tomllib

from localcluster.paths import CHECKOUT

PACKAGES = ("operator", "worker")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_licence_is_that_of_the_repository(package: str) -> None:
    # A wheel takes it from its own folder: a file outside it is not packed.
    assert (CHECKOUT / package / "LICENSE").read_bytes() == (CHECKOUT / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_classifiers_name_the_oldest_python_that_is_required(package) -> None:
    project = tomllib.loads((CHECKOUT / package / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    pythons = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert pythons[0] == oldest
